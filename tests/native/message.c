/*
 * asterisk-dialog: the JSON messages of the fork, for ctypes.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief Plain functions around fork_message and fork_json, callable from Python.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fork_message.h"

/*!
 * \brief All fields, one `name=value` a line, the text last as it may hold line ends;
 * or "!about|why".
 */
void message_show(const char *text, size_t length, char *out, size_t size)
{
	char *exact = malloc(length ? length : 1);
	struct fork_request r;
	const char *about = "?";
	char why[150];

	if (!exact) {
		return;
	}
	memcpy(exact, text, length);
	if (fork_request_parse(&r, exact, length, &about, why, sizeof(why))) {
		snprintf(out, size, "!%s|%s", about, why);
	} else {
		snprintf(out, size, "type=%s\nabout=%s\nplay=%s\nname=%s\nrate=%u\nwhisper=%d\n"
			"live_ms=%u\nat_ms=%lld\nin=%d\nout=%d\non=%d\nmode=%s\nstopped=%x\nlimit_ms=%u\n"
			"kept=%s\ntext=%s", fork_ask_name(r.ask), about,
			r.play, r.name, r.rate_hz, r.whisper, r.live_ms, (long long) r.at_ms,
			r.direction[FORK_READ], r.direction[FORK_WRITE], r.on, fork_keys_mode_name(r.mode),
			r.stopped, r.limit_ms, fork_kept_name(r.kept), r.text);
	}
	free(exact);
}

/*! \brief All that can be written: {"type", key, "number", "flag", "in": {key, "n": {}}, "last"} */
size_t message_write(char *room, size_t size, const char *type, const char *key, const char *text,
	long long number, int flag)
{
	struct fork_json j;

	fork_json_begin(&j, room, size, type);
	fork_json_text(&j, key, text);
	fork_json_int(&j, "number", number);
	fork_json_bool(&j, "flag", flag);
	fork_json_open(&j, "in");
	fork_json_text(&j, key, text);
	fork_json_open(&j, "n");
	fork_json_close(&j);
	fork_json_close(&j);
	fork_json_text(&j, "last", NULL);
	return fork_json_done(&j);
}
