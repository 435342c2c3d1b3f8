/*
 * asterisk-dialog: JSON, written without allocation.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

#include "fork_json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/*! \brief All of it, or nothing from here on. */
static void put(struct fork_json *j, const char *text, size_t length)
{
	if (j->overflow || (size_t) (j->end - j->at) < length) {
		j->overflow = true;
		return;
	}
	memcpy(j->at, text, length);
	j->at += length;
}

static void put_ascii(struct fork_json *j, unsigned char c)
{
	static const char escaped[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
	const char *found = strchr(escaped, c);
	char text[8] = { '\\' };

	if (found) {
		text[1] = letters[found - escaped];
		put(j, text, 2);
	} else if (c < ' ') {
		snprintf(text, sizeof(text), "\\u%04x", c);
		put(j, text, 6);
	} else {
		text[0] = (char) c;
		put(j, text, 1);
	}
}

static void put_string(struct fork_json *j, const char *text)
{
	const char *end = text + strlen(text);
	size_t length;
	bool valid;

	put(j, "\"", 1);
	for (; text < end && !j->overflow; text += length) {
		length = fork_utf8_length(text, end, &valid);
		if (!valid) {
			put(j, "\xef\xbf\xbd", 3);
		} else if (length > 1) {
			put(j, text, length);
		} else {
			put_ascii(j, (unsigned char) *text);
		}
	}
	put(j, "\"", 1);
}

static void put_key(struct fork_json *j, const char *key)
{
	if (j->comma) {
		put(j, ",", 1);
	}
	j->comma = true;
	put_string(j, key);
	put(j, ":", 1);
}

void fork_json_begin(struct fork_json *j, char *room, size_t size, const char *type)
{
	*j = (struct fork_json) { .at = room, .first = room, .end = room + size };
	put(j, "{", 1);
	fork_json_text(j, "type", type);
}

void fork_json_text(struct fork_json *j, const char *key, const char *value)
{
	put_key(j, key);
	put_string(j, value ? value : "");
}

void fork_json_int(struct fork_json *j, const char *key, int64_t value)
{
	char text[24];
	int length = snprintf(text, sizeof(text), "%" PRId64, value);

	put_key(j, key);
	put(j, text, (size_t) length);
}

void fork_json_bool(struct fork_json *j, const char *key, bool value)
{
	put_key(j, key);
	put(j, value ? "true" : "false", value ? 4 : 5);
}

void fork_json_open(struct fork_json *j, const char *key)
{
	put_key(j, key);
	put(j, "{", 1);
	j->comma = false;
}

void fork_json_close(struct fork_json *j)
{
	put(j, "}", 1);
	j->comma = true;
}

size_t fork_json_done(struct fork_json *j)
{
	put(j, "}", 1);
	return j->overflow ? 0 : (size_t) (j->at - j->first);
}
