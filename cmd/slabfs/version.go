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
		RunE:  func(c *cobra.Command, _ []string) error { return printVersion(c) },
	}
}

func printVersion(c *cobra.Command) error {
	_, err := fmt.Fprintf(c.OutOrStdout(), "slabfs %s %s/%s %s\n", slabattr.Version, runtime.GOOS, runtime.GOARCH, runtime.Version())
	return err
}
