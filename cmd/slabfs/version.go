package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"slabfs/sysfs/slabattr"
)

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "print the version",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(c.OutOrStdout(), versionLine())
			return err
		},
	}
}

func versionLine() string {
	return fmt.Sprintf("slabfs %s %s/%s %s\n", slabattr.Version, runtime.GOOS, runtime.GOARCH, runtime.Version())
}
