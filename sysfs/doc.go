// Package sysfs is a tree of directories and files that are not stored but
// computed: what Linux builds from kobjects and kernfs. It knows no file system;
// sysfs/fusefs serves a tree over FUSE.
//
//	Tree       one hierarchy, with its inode numbers and its observers
//	Kobject    a directory; stands for one object of the program
//	Attribute  the definition of a file: name, mode, Show, Store; shared by all kobjects that have it
//	File       one attribute of one kobject; made when somebody looks for it
//	Link       a symbolic link to a kobject
//
// An object's files come and go like this:
//
//  1. Add makes a directory with all its files and publishes it at once: a
//     lookup finds all of it or nothing.
//  2. Show and Store run the attribute's function while they hold an active
//     reference of the file. Nothing else holds one: a descriptor that is open
//     keeps no object alive.
//  3. Remove takes the directory out of its parent, so that lookups fail and the
//     name is free; then it deactivates every file below, so that none can be
//     called any more; then it waits for the calls under way (the drain); then
//     it tells the observers.
//
// A directory with 72 files costs no more than one without: which files it has is told
// by a list of attributes that directories share, and what there is to know of all its
// files, one count of active references and what chmod has changed, lies in the kobject.
//
// When Remove has returned, no Show and no Store of the subtree runs, and none
// will: the object may be released.
//
// # Locks
//
// Tree.mu is a leaf. It guards the shape of the tree and is never held while a
// Show, a Store or an observer runs, nor while Remove waits. To wait for a drain
// is to wait for every lock that a Show or a Store of the subtree takes, so
// Remove must be called with none of those held. A Show or a Store may itself
// remove other kobjects, but not one that its own file is in: that Remove would
// wait for its caller, and panics instead. Nor one with files of the same definition
// as its own, or two of them could wait for each other: lockdep reports that.
//
// For every kobject: active == calls of its files under way, plus deactivated once it is
// removed.
package sysfs
