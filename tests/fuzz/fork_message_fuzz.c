/*
 * asterisk-dialog: the server's messages and our own, fuzzed.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief fork_request_parse() and the JSON writer, as a target of libFuzzer.
 *
 * What is held for every input:
 * - a message that is accepted has the fields of its type, each in its range, and no others;
 *   written out and read again it is the same;
 * - one that is refused gets a short sentence of printable ASCII, and a known `about`;
 * - any bytes written as a string make JSON, which reads as those bytes if they are UTF-8;
 * - a room that is one byte short gives 0, and no byte behind it is touched (ASan).
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fork_message.h"

#define HOLDS(what) do { \
		if (!(what)) { \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #what); \
			abort(); \
		} \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_utf8(const char *text)
{
	const char *end = text + strlen(text);
	bool valid = true;

	while (text < end && valid) {
		text += fork_utf8_length(text, end, &valid);
	}
	return valid;
}

static bool is_id(const char *id)
{
	size_t length = strlen(id);

	for (const char *c = id; *c; c++) {
		if (!(*c >= 'a' && *c <= 'z') && !(*c >= 'A' && *c <= 'Z')
			&& !(*c >= '0' && *c <= '9') && !strchr("._:-", *c)) {
			return false;
		}
	}
	return length >= 1 && length <= 64;
}

static void check_fields(const struct fork_request *r)
{
	bool play = r->ask == FORK_ASK_PLAY, mark = r->ask == FORK_ASK_MARK;
	bool guard = r->ask == FORK_ASK_GUARD;
	bool stops = guard && (r->mode == FORK_KEYS_BLOCK || r->mode == FORK_KEYS_BUFFER);
	bool mute = r->ask == FORK_ASK_MUTE, stream = r->ask == FORK_ASK_STREAM;
	bool named = play || mark || r->ask == FORK_ASK_END || r->ask == FORK_ASK_PAUSE
		|| r->ask == FORK_ASK_RESUME;

	HOLDS(r->ask <= FORK_ASK_STOP);
	HOLDS(named ? is_id(r->play)
		: !*r->play || ((guard || r->ask == FORK_ASK_CLEAR) && is_id(r->play)));
	HOLDS(mark || guard ? is_id(r->name) : !*r->name);
	HOLDS(play ? r->rate_hz == 8000 || r->rate_hz == 16000 || r->rate_hz == 24000
		|| r->rate_hz == 48000 : !r->rate_hz);
	HOLDS(play || !r->whisper);
	HOLDS(r->live_ms <= (play ? 3600000 : 0));
	HOLDS(mark || (guard && *r->play) ? r->at_ms >= -1 && r->at_ms <= 1000000000 : !r->at_ms);
	HOLDS(guard ? r->mode <= FORK_KEYS_BUFFER : !r->mode);
	HOLDS(stops == (r->stopped != 0));
	HOLDS(r->limit_ms <= (stops ? 3600000 : 0));
	HOLDS(guard ? r->kept <= FORK_KEPT_STAY : !r->kept);
	HOLDS(mute == (r->direction[FORK_READ] || r->direction[FORK_WRITE]));
	HOLDS(mute || stream || !r->on);
	HOLDS(strlen(r->text) <= 1024 && is_utf8(r->text));
	HOLDS(r->ask == FORK_ASK_TEXT || !*r->text);
}

static void check_same(const struct fork_request *a, const struct fork_request *b)
{
	HOLDS(a->ask == b->ask && !strcmp(a->play, b->play) && !strcmp(a->name, b->name));
	HOLDS(a->rate_hz == b->rate_hz && a->whisper == b->whisper && a->live_ms == b->live_ms);
	HOLDS(a->mode == b->mode && a->stopped == b->stopped && a->limit_ms == b->limit_ms);
	HOLDS(a->kept == b->kept);
	HOLDS(a->at_ms == b->at_ms && a->on == b->on && !strcmp(a->text, b->text));
	HOLDS(a->direction[FORK_READ] == b->direction[FORK_READ]);
	HOLDS(a->direction[FORK_WRITE] == b->direction[FORK_WRITE]);
}

/*! \brief A guard's own fields, each as its text. */
static void write_guard(struct fork_json *j, const struct fork_request *r)
{
	char digits[sizeof(FORK_KEYS_ALL)];
	struct fork_keys keys = { .mode = r->mode, .stopped = r->stopped };

	fork_json_text(j, "name", r->name);
	fork_json_text(j, "mode", fork_keys_mode_name(r->mode));
	fork_json_text(j, "kept", fork_kept_name(r->kept));
	fork_json_int(j, "limit_ms", r->limit_ms);
	if (*r->play && r->at_ms >= 0) {
		fork_json_int(j, "at_ms", r->at_ms);
	}
	fork_keys_stopped(&keys, digits);
	if (*digits) {
		fork_json_text(j, "digits", digits);
	}
}

/*! \brief The request as a server would send it, with a member that is to be passed over. */
static size_t write_request(const struct fork_request *r, char *room, size_t size)
{
	struct fork_json j;

	fork_json_begin(&j, room, size, fork_ask_name(r->ask));
	fork_json_open(&j, "passed over");
	fork_json_int(&j, "play", INT64_MIN);
	fork_json_close(&j);
	if (*r->play) {
		fork_json_text(&j, "play", r->play);
	}
	if (r->ask == FORK_ASK_PLAY) {
		fork_json_int(&j, "rate", r->rate_hz);
		fork_json_bool(&j, "whisper", r->whisper);
		fork_json_int(&j, "live_ms", r->live_ms);
	} else if (r->ask == FORK_ASK_MARK) {
		fork_json_text(&j, "name", r->name);
		if (r->at_ms >= 0) {
			fork_json_int(&j, "at_ms", r->at_ms);
		}
	} else if (r->ask == FORK_ASK_GUARD) {
		write_guard(&j, r);
	} else if (r->ask == FORK_ASK_MUTE) {
		fork_json_text(&j, "direction", !r->direction[FORK_WRITE] ? "in"
			: r->direction[FORK_READ] ? "both" : "out");
	} else if (r->ask == FORK_ASK_TEXT) {
		fork_json_text(&j, "text", r->text);
	}
	fork_json_bool(&j, "on", r->on);
	return fork_json_done(&j);
}

static void check_written(const struct fork_request *r)
{
	char room[8192], why[150];
	const char *about;
	struct fork_request again;
	size_t length = write_request(r, room, sizeof(room));
	char *exact;

	HOLDS(length);
	if (length <= FORK_TEXT_MAX) {
		HOLDS(!fork_request_parse(&again, room, length, &about, why, sizeof(why)));
		check_same(r, &again);
	}
	exact = malloc(length);
	HOLDS(exact && write_request(r, exact, length) == length && !memcmp(room, exact, length));
	free(exact);
	exact = malloc(length - 1);
	HOLDS(exact && !write_request(r, exact, length - 1));
	free(exact);
}

/*! \brief The bytes up to their first zero, as a string of our own. */
static void check_string(const char *text)
{
	size_t size = strlen(text) * 6 + 64, length;
	char *room = malloc(size), *back = malloc(size);
	struct fork_json j;
	struct fork_json_reader r;
	struct fork_json_value key, value;

	HOLDS(room && back);
	fork_json_begin(&j, room, size, "text");
	fork_json_text(&j, "text", text);
	length = fork_json_done(&j);
	HOLDS(length);
	fork_json_read(&r, room, length);
	HOLDS(fork_json_next(&r, &key, &value) && fork_json_next(&r, &key, &value));
	HOLDS(fork_json_get_text(&key, back, size) && !strcmp(back, "text"));
	HOLDS(fork_json_get_text(&value, back, size));
	HOLDS(is_utf8(back) && (!is_utf8(text) || !strcmp(text, back)));
	HOLDS(!fork_json_next(&r, &key, &value) && !r.wrong);
	free(room);
	free(back);
}

static void check_refusal(const char *about, const char *why)
{
	size_t length = strlen(why);
	bool known = !strcmp(about, "message");

	for (unsigned int ask = 0; ask <= FORK_ASK_STOP; ask++) {
		known |= !strcmp(about, fork_ask_name((enum fork_ask) ask));
	}
	HOLDS(known && length > 10 && length < 149);
	for (const char *c = why; *c; c++) {
		HOLDS(*c >= ' ' && *c <= '~' && *c != '"' && *c != '\\');
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fork_request request;
	const char *about = NULL;
	char why[150], *text = malloc(size + 1);

	HOLDS(text);
	memset(why, 'x', sizeof(why));
	memset(&request, 0xa5, sizeof(request));
	if (fork_request_parse(&request, (const char *) data, size, &about, why, sizeof(why))) {
		HOLDS(memchr(why, '\0', sizeof(why)));
		check_refusal(about, why);
	} else {
		HOLDS(!strcmp(about, fork_ask_name(request.ask)) && size <= FORK_TEXT_MAX);
		check_fields(&request);
		check_written(&request);
	}
	memcpy(text, data, size);
	text[size] = '\0';
	check_string(text);
	free(text);
	return 0;
}
