/*
 * asterisk-dialog: WebSocket addresses.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief ws:// and wss:// URLs: taken apart, matched against an allow list, made fit for a log.
 *
 * Pure: no socket, no Asterisk.
 */

#ifndef FORK_URL_H
#define FORK_URL_H

#include <stdbool.h>
#include <stddef.h>

#define FORK_URL_MAX 512

struct fork_url {
	bool tls;
	unsigned int port;
	char host[256];                 /*!< name or address, IPv6 without its brackets */
	char path[FORK_URL_MAX];        /*!< from the first slash, with the query; never empty */
	char shown[200];                /*!< for logs and lists: no query, cut if long */
};

/*!
 * \brief Take a URL apart.
 * \param why set to what is wrong with it
 * \retval 0 done \retval -1 refused
 */
int fork_url_parse(struct fork_url *url, const char *text, const char **why);

/*!
 * \brief Whether an entry of the allow list covers the URL.
 *
 * An entry is a URL itself: scheme, host and port must be equal, and its path must be the
 * URL's path or a parent of it. (Text prefixes would let ws://good match ws://good.evil.)
 */
bool fork_url_allows(const char *entry, const struct fork_url *url);

#endif /* FORK_URL_H */
