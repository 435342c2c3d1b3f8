/*
 * asterisk-dialog: name resolution off the service thread.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief One thread that asks the resolver, so that a slow DNS server holds up no audio.
 *
 * libwebsockets would call getaddrinfo() on the service thread, where all forks wait.
 */

#ifndef FORK_RESOLVE_H
#define FORK_RESOLVE_H

/*! Requests waiting; a further one is refused. */
#define FORK_RESOLVE_MAX 1024
/*! Characters of a numeric address, and addresses taken of a host that has many. */
#define FORK_ADDRESS_MAX 64
#define FORK_ADDRESSES 4

struct fork_addresses {
	unsigned int count;
	char numeric[FORK_ADDRESSES][FORK_ADDRESS_MAX];
};

/*! \brief Called on the resolver's thread. \param error why there are none, when count is 0 */
typedef void (*fork_resolved)(void *user, const struct fork_addresses *found, const char *error);

int fork_resolver_start(void);
/*! \retval 0 stopped \retval -1 still inside a look-up after `timeout_ms`; call again */
int fork_resolver_stop(unsigned int timeout_ms);

/*!
 * \brief Ask for a host's addresses.
 * \retval 0 `done` will be called once \retval -1 too many requests
 */
int fork_resolve(const char *host, fork_resolved done, void *user);

#endif /* FORK_RESOLVE_H */
