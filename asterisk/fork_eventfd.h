/*
 * asterisk-dialog: the descriptor that libwebsockets forgets.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief libwebsockets 4.2 and 4.3 do not close the eventfd that wakes their loop (its issue 2744).
 *
 * A module that is unloaded and loaded again would lose one descriptor each time. The eventfd is
 * found by what it does, it counts when the loop is woken, and known again by the kernel's number
 * for it (/proc/self/fdinfo, "eventfd-id", Linux 5.2), so that nobody else's is ever closed.
 */

#ifndef FORK_EVENTFD_H
#define FORK_EVENTFD_H

/*! \brief An eventfd of this process. */
struct fork_eventfd {
	int fd;  /*!< -1: none */
	long id; /*!< the kernel's */
};

/*! \brief Find the eventfd whose count grows by one with each wake(). */
struct fork_eventfd fork_eventfd_find(void (*wake)(void));
/*! \brief Close it, should it still be open. */
void fork_eventfd_close(struct fork_eventfd *eventfd);

#endif /* FORK_EVENTFD_H */
