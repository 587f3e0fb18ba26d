package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// mount(8) runs the program /sbin/mount.TYPE for types that it does not know:
//
//	mount.fuse.slabfs SPEC DIR [-fnsv] [-o OPTIONS]    a link to this command
//	slabfs SPEC DIR -o OPTIONS                         by way of mount.fuse3
//
// mount(8) waits for the program and exits with the program's status.

// calledByMount reports whether the command line has one of these forms. If
// SPEC is the name of a command, the line is taken for that command.
func calledByMount(args []string) bool {
	if strings.HasPrefix(filepath.Base(args[0]), "mount.") {
		return true
	}
	if len(args) < 4 || strings.HasPrefix(args[1], "-") || !filepath.IsAbs(args[2]) || !slices.Contains(args[3:], "-o") {
		return false
	}
	_, _, err := newRootCommand().Find(args[1:2])
	return err != nil
}

// newHelperCommand returns the command that mount(8) calls.
func newHelperCommand() *cobra.Command {
	var options []string
	var fake, sloppy, verbose bool
	c := &cobra.Command{
		Use:           "slabfs SPEC DIR -o OPTIONS",
		Short:         "mount as mount(8) asks for it",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return errors.New("called as mount(8) does: want SPEC DIR -o OPTIONS, as in: mount -t fuse.slabfs slabfs DIR -o load")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			mount := newMountCommand()
			if err := setOptions(mount.Flags(), splitOptions(options), sloppy); err != nil || fake {
				return err
			}
			if !inBackground() {
				out := io.Discard
				if verbose {
					out = os.Stdout
				}
				return startBackground(out)
			}
			return mount.RunE(mount, args[1:])
		},
	}
	f := c.Flags()
	f.StringArrayVarP(&options, "options", "o", nil, "mount options and long flags of slabfs mount, comma-separated")
	f.BoolVarP(&fake, "fake", "f", false, "check the options, but do not mount")
	f.BoolVarP(&sloppy, "sloppy", "s", false, "ignore unknown options")
	f.BoolVarP(&verbose, "verbose", "v", false, "print a line when it is mounted")
	f.BoolP("no-mtab", "n", false, "ignored")
	f.StringP("type", "t", "", "ignored")
	return c
}

// splitOptions splits at commas outside double quotes, as mount(8) does.
func splitOptions(lists []string) []string {
	quoted := false
	split := func(r rune) bool {
		quoted = quoted != (r == '"')
		return r == ',' && !quoted
	}
	options := strings.FieldsFunc(strings.Join(lists, ","), split)
	for i, o := range options {
		options[i] = strings.ReplaceAll(o, `"`, "")
	}
	return options
}

// Options to ignore: those for mount(8) and service managers in fstab, those
// that mount(8) adds, and those without meaning for a file system that has no
// times, devices or programs.
var (
	ignoredOptions = strings.Fields(`defaults auto noauto nofail user nouser users owner group _netdev
		dev nodev suid nosuid exec noexec async sync dirsync default_permissions
		atime noatime diratime nodiratime relatime norelatime strictatime nostrictatime
		lazytime nolazytime iversion noiversion mand nomand silent loud`)
	ignoredPrefixes = []string{"x-", "X-", "comment=", "user="}
)

// kernelOptions are passed on to the server or the kernel. An option that ends
// in = takes a value.
var kernelOptions = []string{"ro", "rw", "allow_other", "uid=", "gid=", "umask=", "context=", "fscontext=", "defcontext=", "rootcontext="}

// setOptions sets the flags of slabfs mount from mount options. A flag without
// a value is given by its name, such as load; other flags are given as
// name=value. An underscore stands for a hyphen.
func setOptions(flags *pflag.FlagSet, options []string, sloppy bool) error {
	for _, o := range options {
		name, value, hasValue := strings.Cut(o, "=")
		flag := flags.Lookup(strings.ReplaceAll(name, "_", "-"))
		kernel := slices.ContainsFunc(kernelOptions, func(k string) bool { return k == o || hasValue && k == name+"=" })
		var err error
		switch {
		case kernel:
			err = flags.Lookup("options").Value.(pflag.SliceValue).Append(o)
		case slices.Contains(ignoredOptions, o),
			slices.ContainsFunc(ignoredPrefixes, func(p string) bool { return strings.HasPrefix(o, p) }):
		case name == "remount":
			err = errors.New("not supported; unmount it and mount it again")
		case flag == nil || name == "daemon" || name == "options":
			if !sloppy {
				err = errors.New("unknown; want a flag of slabfs mount, such as load or cache=NAME:SIZE, or an option of every mount, such as ro")
			}
		case !hasValue && flag.NoOptDefVal == "":
			err = fmt.Errorf("want %s=VALUE", name)
		case !hasValue:
			err = flags.Set(flag.Name, flag.NoOptDefVal)
		default:
			err = flags.Set(flag.Name, value)
		}
		if err != nil {
			return fmt.Errorf("mount option %q: %w", o, err)
		}
	}
	return nil
}
