package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"slabfs/sysfs/fusefs"
)

// umountPatience is how long umount keeps trying while the mount is in use.
const umountPatience = time.Second

func newUmountCommand() *cobra.Command {
	var lazy bool
	c := &cobra.Command{
		Use:   "umount [--lazy] DIR",
		Short: "unmount DIR, which ends its server",
		Long: `umount unmounts DIR if a slabfs is mounted there. The server then ends. It removes
DIR if it created DIR. umount also cleans up what a killed server left behind.`,
		Example: `  slabfs umount ./mnt
  slabfs umount --lazy ./mnt    # even if it is in use`,
		Args: oneDir,
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), umountPatience)
			defer cancel()
			err := fusefs.Unmount(ctx, args[0], lazy)
			switch {
			case err == nil:
				return nil
			case errors.Is(err, fusefs.ErrStale):
				return &statusError{statusStale, err}
			}
			return &statusError{statusMount, err}
		},
	}
	c.Flags().BoolVarP(&lazy, "lazy", "l", false, "detach it even if it is in use; programs that have it open may go on")
	return c
}
