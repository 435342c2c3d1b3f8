/*
 * asterisk-dialog: WebSocket addresses.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

#include "fork_url.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int refuse(const char **why, const char *text)
{
	*why = text;
	return -1;
}

/*! \brief Host and port out of `authority`. */
static int parse_authority(struct fork_url *url, char *authority, const char **why)
{
	char *host = authority, *port = NULL, *end;
	unsigned long number;

	if (strchr(authority, '@')) {
		return refuse(why, "a user name in the address is not supported");
	}
	if (*authority == '[') {
		host = authority + 1;
		end = strchr(host, ']');
		if (!end || (end[1] && end[1] != ':')) {
			return refuse(why, "bad IPv6 address");
		}
		*end = '\0';
		port = end[1] ? end + 2 : NULL;
	} else if ((end = strchr(authority, ':'))) {
		*end = '\0';
		port = end + 1;
	}
	if (!*host || strlen(host) >= sizeof(url->host)) {
		return refuse(why, "no host, or too long a host");
	}
	for (const char *c = host; *c; c++) {
		if (!isalnum((unsigned char) *c) && !strchr("-._:", *c)) {
			return refuse(why, "a character in the host is not allowed");
		}
	}
	strcpy(url->host, host);
	url->port = url->tls ? 443 : 80;
	if (port) {
		number = strtoul(port, &end, 10);
		if (!isdigit((unsigned char) *port) || *end || !number || number > 65535) {
			return refuse(why, "bad port");
		}
		url->port = (unsigned int) number;
	}
	return 0;
}

int fork_url_parse(struct fork_url *url, const char *text, const char **why)
{
	char authority[FORK_URL_MAX];
	const char *start;
	size_t length;

	memset(url, 0, sizeof(*url));
	if (strlen(text) >= FORK_URL_MAX - 1) {
		return refuse(why, "too long");
	}
	for (const char *c = text; *c; c++) {
		if ((unsigned char) *c <= ' ' || (unsigned char) *c >= 0x7f || strchr("\"<>\\^`{|}", *c)) {
			return refuse(why, "a character in it is not allowed");
		}
	}
	if (!strncasecmp(text, "ws://", 5)) {
		start = text + 5;
	} else if (!strncasecmp(text, "wss://", 6)) {
		start = text + 6;
		url->tls = true;
	} else {
		return refuse(why, "it must begin with ws:// or wss://");
	}
	length = strcspn(start, "/?#");
	memcpy(authority, start, length);
	authority[length] = '\0';
	if (parse_authority(url, authority, why)) {
		return -1;
	}
	start += length;
	/* Shorter than FORK_URL_MAX - 1 as the whole is, so there is room for a slash. */
	url->path[0] = '/';
	memcpy(url->path + (*start != '/'), start, strcspn(start, "#"));
	length = (size_t) (start - text) + strcspn(start, "?#");
	length = length < sizeof(url->shown) ? length : sizeof(url->shown) - 1;
	memcpy(url->shown, text, length);
	return 0;
}

bool fork_url_allows(const char *entry, const struct fork_url *url)
{
	struct fork_url allowed;
	const char *why;
	size_t length, path;

	if (fork_url_parse(&allowed, entry, &why) || allowed.tls != url->tls
		|| allowed.port != url->port || strcasecmp(allowed.host, url->host)) {
		return false;
	}
	/* "/a" covers "/a", "/a/b" and "/a?q", not "/ab"; dots could climb out of it again. */
	length = strcspn(allowed.path, "?");
	path = strcspn(url->path, "?");
	if (length > 1 && (strstr(url->path, "..") || strchr(url->path, '%'))) {
		return false;
	}
	if (allowed.path[length - 1] == '/') {
		length--;
	}
	return path >= length && !strncmp(allowed.path, url->path, length)
		&& (path == length || url->path[length] == '/');
}
