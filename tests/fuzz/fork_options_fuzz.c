/*
 * asterisk-dialog: the options and the address of AudioFork(), fuzzed.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief fork_options_parse(), fork_url_parse() and fork_url_allows(), as a target of libFuzzer.
 *
 * The first byte's lowest bit chooses the direction names; the rest up to a zero is the text.
 * What is held for every input: a URL that is accepted is made of what it was given, is fit
 * for a request line, shows no query, and is allowed by its own scheme, host and port; the
 * numbers of accepted options are in their ranges; a refusal has a sentence.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fork_options.h"
#include "fork_url.h"

#define HOLDS(what) do { \
		if (!(what)) { \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #what); \
			abort(); \
		} \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_url(const char *text)
{
	struct fork_url url;
	const char *why = NULL;
	char entry[sizeof(url.host) + 32];

	if (fork_url_parse(&url, text, &why)) {
		HOLDS(why && *why);
		HOLDS(!fork_url_allows(text, &url));
		return;
	}
	HOLDS(*url.host && strlen(url.host) < sizeof(url.host) && strstr(text, url.host));
	HOLDS(url.port >= 1 && url.port <= 65535);
	HOLDS(url.path[0] == '/' && strlen(url.path) < sizeof(url.path));
	for (const char *c = url.path; *c; c++) {
		HOLDS(*c > ' ' && *c <= '~' && *c != '#');
	}
	HOLDS(strlen(url.shown) < sizeof(url.shown) && !strpbrk(url.shown, "?#"));
	HOLDS(!strncmp(url.shown, text, strlen(url.shown)));
	snprintf(entry, sizeof(entry), strchr(url.host, ':') ? "%s://[%s]:%u" : "%s://%s:%u",
		url.tls ? "wss" : "ws", url.host, url.port);
	HOLDS(fork_url_allows(entry, &url));
	snprintf(entry, sizeof(entry), strchr(url.host, ':') ? "%s://[%s]:%u" : "%s://%s:%u",
		url.tls ? "ws" : "wss", url.host, url.port);
	HOLDS(!fork_url_allows(entry, &url));
}

static void check_options(const char *text, bool inverted)
{
	struct fork_options o;
	char why[160];

	memset(why, 'x', sizeof(why));
	if (fork_options_parse(&o, text, inverted, why, sizeof(why))) {
		HOLDS(memchr(why, '\0', sizeof(why)) && *why);
		return;
	}
	HOLDS(o.beep_s <= 3600);
	HOLDS(o.read_gain >= -4 && o.read_gain <= 4 && o.write_gain >= -4 && o.write_gain <= 4);
	HOLDS(o.reconnect_s >= -1 && o.reconnect_s <= 3600);
	HOLDS(o.reconnect_attempts >= -1 && o.reconnect_attempts <= 1000000);
	HOLDS(o.message_ms >= 20 && o.message_ms <= 200 && o.message_ms % 20 == 0);
	HOLDS(o.rate_hz == 8000 || o.rate_hz == 16000);
	HOLDS(o.variables <= FORK_NAMES_MAX && (o.json || !o.variables));
	for (unsigned int i = 0; i < o.variables; i++) {
		HOLDS(*o.variable[i] && strlen(o.variable[i]) < sizeof(o.variable[i]));
		HOLDS(!strpbrk(o.variable[i], "(), &\n"));
	}
	HOLDS(strlen(o.id_variable) < sizeof(o.id_variable) && !strpbrk(o.id_variable, "(), \n"));
	HOLDS(strlen(o.tls_cert) < sizeof(o.tls_cert) && strlen(o.tls_key) < sizeof(o.tls_key));
	HOLDS(strlen(o.tls_ca) < sizeof(o.tls_ca));
	HOLDS(o.tls || (!*o.tls_cert && !*o.tls_key && !*o.tls_ca));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	HOLDS(text);
	memcpy(text, data, size);
	text[size] = '\0';
	if (size) {
		check_options(text + 1, text[0] & 1);
		check_url(text + 1);
	}
	free(text);
	return 0;
}
