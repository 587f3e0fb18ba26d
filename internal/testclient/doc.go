// Package testclient runs file operations in a child process, for tests that
// mount a file system. A process that uses a mount which it serves itself can
// lock up: a fork waits for a close that waits for the server.
//
// The child is the test binary run again. TestMain calls Main first. In a
// child, Main does not return:
//
//	func TestMain(m *testing.M) {
//		testclient.Main()
//		os.Exit(m.Run())
//	}
//
// A test starts as many clients as it likes, as any user, and sends them
// operations:
//
//	c := testclient.Start(t, testclient.Options{UID: testclient.Nobody})
//	fd := c.OK(testclient.Op{Do: "open", Path: p, Flags: unix.O_RDONLY}).FD
//	p := c.Go(testclient.Op{Do: "read", FD: fd, Size: 4096}) // may block
//	c.Want(unix.EPERM, testclient.Op{Do: "unlink", Path: p})
//
// Requests and replies are lines of JSON on the child's standard input and
// output. Each operation runs on a thread of its own, with plain system calls:
// errno is the kernel's, EINTR included. Descriptors stay open between
// operations, so a test can change the tree in between.
package testclient
