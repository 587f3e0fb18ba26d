// Package sysfs is a tree of directories and files whose content is computed,
// not stored. It is what Linux builds from kobjects and kernfs. It knows no
// file system; sysfs/fusefs serves a tree over FUSE.
//
//	Tree       one hierarchy, with its inode numbers and its observers
//	Kobject    a directory; stands for one object of the program
//	Attribute  the definition of a file (name, mode, Show, Store), shared by kobjects
//	File       one attribute of one kobject; made when a caller looks for it
//	Link       a symbolic link to a kobject
//
// An object's files come and go in these steps:
//
//  1. Add makes a directory with all its files and publishes it at once: a
//     lookup finds all of it or nothing.
//  2. Show and Store run the attribute's function while they hold an active
//     reference of the file. Nothing else holds an active reference, so an open
//     descriptor keeps no object alive.
//  3. Remove takes the directory out of its parent, so that lookups fail and
//     the name is free. It then deactivates every file below, so that no new
//     call begins. It then waits for the current calls (the drain). Finally it
//     tells the observers.
//
// When Remove has returned, no Show and no Store of the subtree runs or will
// ever run. The object may be released.
//
// A directory with 72 files costs no more than a directory without files.
// Directories share a list of attributes that says which files they have. The
// kobject holds everything about its files: one count of active references, and
// what chmod has changed.
//
// # Locks
//
// Tree.mu is a leaf. It guards the shape of the tree. It is never held while a
// Show, a Store or an observer runs, nor while Remove waits.
//
// A drain waits for every lock that a Show or a Store of the subtree takes. So
// the caller of Remove must hold none of these locks. A Show or a Store may
// remove other kobjects, but not a kobject that contains its own file: that
// Remove would wait for its caller, and panics instead. It also must not remove
// a kobject with files of the same definition as its own, because two such
// calls could wait for each other. lockdep reports that.
//
// For every kobject: active == current calls of its files, plus deactivated
// once it is removed.
package sysfs
