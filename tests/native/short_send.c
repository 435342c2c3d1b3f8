/*
 * asterisk-dialog: a kernel that once takes a piece of a message.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief Linked with --wrap=send: the 10th send() of the fork's own sends half of its bytes.
 */

#include <stdatomic.h>
#include <sys/socket.h>

#define SHORT_ONE 10

ssize_t __real_send(int fd, const void *bytes, size_t length, int flags);
ssize_t __wrap_send(int fd, const void *bytes, size_t length, int flags);

ssize_t __wrap_send(int fd, const void *bytes, size_t length, int flags)
{
	static atomic_int sends;

	return __real_send(fd, bytes, ++sends == SHORT_ONE ? length / 2 : length, flags);
}
