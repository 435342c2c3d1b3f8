/*
 * asterisk-dialog: the JSON messages of the fork.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

#include "fork_message.h"

#include <stdio.h>
#include <string.h>

#define ID_WANTED "an id, 1 to 64 of A-Z a-z 0-9 . _ : -,"

enum key {
	KEY_TYPE,
	KEY_PLAY,
	KEY_NAME,
	KEY_RATE,
	KEY_WHISPER,
	KEY_LIVE,
	KEY_AT,
	KEY_DIRECTION,
	KEY_ON,
	KEY_TEXT,
	KEY_MODE,
	KEY_DIGITS,
	KEY_LIMIT,
	KEY_KEPT,
	KEYS,
};

#define BIT(key) (1U << (key))

static const struct {
	const char *name;
	unsigned int needed, optional; /*!< bits of keys, KEY_TYPE understood */
} asks[] = {
	[FORK_ASK_PLAY] = { "play", BIT(KEY_PLAY), BIT(KEY_RATE) | BIT(KEY_WHISPER) | BIT(KEY_LIVE) },
	[FORK_ASK_END] = { "end", BIT(KEY_PLAY), 0 },
	[FORK_ASK_MARK] = { "mark", BIT(KEY_PLAY) | BIT(KEY_NAME), BIT(KEY_AT) },
	[FORK_ASK_GUARD] = { "guard", BIT(KEY_NAME) | BIT(KEY_MODE), BIT(KEY_PLAY) | BIT(KEY_AT)
		| BIT(KEY_DIGITS) | BIT(KEY_LIMIT) | BIT(KEY_KEPT) },
	[FORK_ASK_CLEAR] = { "clear", 0, BIT(KEY_PLAY) },
	[FORK_ASK_PAUSE] = { "pause", BIT(KEY_PLAY), 0 },
	[FORK_ASK_RESUME] = { "resume", BIT(KEY_PLAY), 0 },
	[FORK_ASK_MUTE] = { "mute", BIT(KEY_DIRECTION) | BIT(KEY_ON), 0 },
	[FORK_ASK_STREAM] = { "stream", BIT(KEY_ON), 0 },
	[FORK_ASK_COUNTERS] = { "counters", 0, 0 },
	[FORK_ASK_TEXT] = { "text", BIT(KEY_TEXT), 0 },
	[FORK_ASK_STOP] = { "stop", 0, 0 },
};

#define ASKS (sizeof(asks) / sizeof(*asks))

static bool get_id(const struct fork_json_value *value, char *room)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		"0123456789._:-";

	return fork_json_get_text(value, room, FORK_ID_MAX) && *room && !room[strspn(room, allowed)];
}

static bool get_bool(const struct fork_json_value *value, bool *field)
{
	*field = value->kind == FORK_JSON_TRUE;
	return *field || value->kind == FORK_JSON_FALSE;
}

/*! \brief Shorter than its room is every name, so that a longer one is none of them. */
static bool get_type(struct fork_request *request, const struct fork_json_value *value)
{
	char name[16];

	if (!fork_json_get_text(value, name, sizeof(name))) {
		return false;
	}
	for (size_t i = 0; i < ASKS; i++) {
		if (!strcmp(name, asks[i].name)) {
			request->ask = (enum fork_ask) i;
			return true;
		}
	}
	return false;
}

static bool get_play(struct fork_request *request, const struct fork_json_value *value)
{
	return get_id(value, request->play);
}

static bool get_name(struct fork_request *request, const struct fork_json_value *value)
{
	return get_id(value, request->name);
}

static bool get_rate(struct fork_request *request, const struct fork_json_value *value)
{
	int64_t rate;

	if (!fork_json_get_int(value, 8000, 48000, &rate)
		|| (rate != 8000 && rate != 16000 && rate != 24000 && rate != 48000)) {
		return false;
	}
	request->rate_hz = (uint32_t) rate;
	return true;
}

static bool get_whisper(struct fork_request *request, const struct fork_json_value *value)
{
	return get_bool(value, &request->whisper);
}

static bool get_live(struct fork_request *request, const struct fork_json_value *value)
{
	int64_t live_ms;

	if (!fork_json_get_int(value, 0, 3600000, &live_ms)) {
		return false;
	}
	request->live_ms = (uint32_t) live_ms;
	return true;
}

static bool get_at(struct fork_request *request, const struct fork_json_value *value)
{
	return fork_json_get_int(value, 0, 1000000000, &request->at_ms);
}

static bool get_direction(struct fork_request *request, const struct fork_json_value *value)
{
	char name[8];
	bool both;

	if (!fork_json_get_text(value, name, sizeof(name))) {
		return false;
	}
	both = !strcmp(name, "both");
	request->direction[FORK_READ] = both || !strcmp(name, "in");
	request->direction[FORK_WRITE] = both || !strcmp(name, "out");
	return request->direction[FORK_READ] || request->direction[FORK_WRITE];
}

static bool get_on(struct fork_request *request, const struct fork_json_value *value)
{
	return get_bool(value, &request->on);
}

static bool get_said(struct fork_request *request, const struct fork_json_value *value)
{
	return fork_json_get_text(value, request->text, sizeof(request->text));
}

static bool get_mode(struct fork_request *request, const struct fork_json_value *value)
{
	uint16_t all;
	char name[8];

	/* "block(0-9)" does not fit: the digits have a key of their own. */
	return fork_json_get_text(value, name, sizeof(name))
		&& !fork_keys_mode_parse(name, &request->mode, &all)
		&& !strcmp(name, fork_keys_mode_name(request->mode));
}

static bool get_digits(struct fork_request *request, const struct fork_json_value *value)
{
	char digits[64];

	return fork_json_get_text(value, digits, sizeof(digits))
		&& !fork_keys_digits_parse(digits, &request->stopped);
}

static bool get_limit(struct fork_request *request, const struct fork_json_value *value)
{
	int64_t limit_ms;

	if (!fork_json_get_int(value, 0, 3600000, &limit_ms)) {
		return false;
	}
	request->limit_ms = (uint32_t) limit_ms;
	return true;
}

static bool get_kept(struct fork_request *request, const struct fork_json_value *value)
{
	char name[8];

	if (!fork_json_get_text(value, name, sizeof(name))) {
		return false;
	}
	for (int kept = FORK_KEPT_TAKE; kept <= FORK_KEPT_STAY; kept++) {
		if (!strcmp(name, fork_kept_name((enum fork_kept) kept))) {
			request->kept = (enum fork_kept) kept;
			return true;
		}
	}
	return false;
}

static const struct {
	const char *name, *wanted;
	bool (*get)(struct fork_request *request, const struct fork_json_value *value);
} keys[KEYS] = {
	[KEY_TYPE] = { "type", "one of play, end, mark, guard, clear, pause, resume, mute, stream, "
		"counters, text, stop", get_type },
	[KEY_PLAY] = { "play", ID_WANTED, get_play },
	[KEY_NAME] = { "name", ID_WANTED, get_name },
	[KEY_RATE] = { "rate", "8000, 16000, 24000 or 48000", get_rate },
	[KEY_WHISPER] = { "whisper", "true or false", get_whisper },
	[KEY_LIVE] = { "live_ms", "a whole number from 0 to 3600000", get_live },
	[KEY_AT] = { "at_ms", "a whole number from 0 to 1000000000", get_at },
	[KEY_DIRECTION] = { "direction", "in, out or both", get_direction },
	[KEY_ON] = { "on", "true or false", get_on },
	[KEY_TEXT] = { "text", "a string of at most 1024 bytes without U+0000", get_said },
	[KEY_MODE] = { "mode", "block, buffer, pass or off", get_mode },
	[KEY_DIGITS] = { "digits", "some of 0-9 * # A-D, as in 0-9*,", get_digits },
	[KEY_LIMIT] = { "limit_ms", "a whole number from 0 to 3600000", get_limit },
	[KEY_KEPT] = { "kept", "take, release or stay", get_kept },
};

struct message {
	struct fork_json_value values[KEYS];
	char *why;
	size_t why_size;
};

/*! \brief The key's number, KEYS: it is not known. */
static enum key find_key(const struct fork_json_value *key)
{
	char name[16];
	unsigned int i = 0;

	if (!fork_json_get_text(key, name, sizeof(name))) {
		return KEYS;
	}
	while (i < KEYS && strcmp(name, keys[i].name)) {
		i++;
	}
	return (enum key) i;
}

/*! \brief Check the whole text, and find the values of the keys that are known. */
static int read_members(struct message *m, const char *text, size_t length)
{
	struct fork_json_reader r;
	struct fork_json_value key, value;

	fork_json_read(&r, text, length);
	while (fork_json_next(&r, &key, &value)) {
		enum key known = find_key(&key);

		if (known == KEYS) {
			continue;
		}
		if (m->values[known].kind) {
			snprintf(m->why, m->why_size, "%s is there twice: once is wanted", keys[known].name);
			return -1;
		}
		m->values[known] = value;
	}
	if (r.wrong) {
		snprintf(m->why, m->why_size, "at byte %zu: %s", (size_t) (r.at - r.start), r.wrong);
		return -1;
	}
	return 0;
}

static int read_field(const struct message *m, struct fork_request *request, enum key key)
{
	const struct fork_json_value *value = &m->values[key];

	if (value->kind && keys[key].get(request, value)) {
		return 0;
	}
	snprintf(m->why, m->why_size, "%s%s: %s is wanted", keys[key].name,
		value->kind ? "" : " is missing", keys[key].wanted);
	return -1;
}

/*! \brief What a guard's fields mean together. */
static int read_guard(const struct message *m, struct fork_request *request)
{
	bool stops = request->mode == FORK_KEYS_BLOCK || request->mode == FORK_KEYS_BUFFER;

	if (m->values[KEY_AT].kind && !m->values[KEY_PLAY].kind) {
		snprintf(m->why, m->why_size, "play is missing: at_ms is a place in a prompt");
		return -1;
	}
	if (!m->values[KEY_PLAY].kind) {
		request->at_ms = 0;
	}
	if (!stops) {
		request->stopped = 0;
		request->limit_ms = 0;
	}
	return 0;
}

static int read_fields(const struct message *m, struct fork_request *request)
{
	bool guard = request->ask == FORK_ASK_GUARD;

	request->rate_hz = request->ask == FORK_ASK_PLAY ? 8000 : 0;
	request->at_ms = request->ask == FORK_ASK_MARK || guard ? -1 : 0;
	request->stopped = guard ? FORK_KEYS_EVERY : 0;
	for (unsigned int i = 0; i < KEYS; i++) {
		bool needed = asks[request->ask].needed & BIT(i);
		bool given = (asks[request->ask].optional & BIT(i)) && m->values[i].kind;

		if ((needed || given) && read_field(m, request, (enum key) i)) {
			return -1;
		}
	}
	return guard ? read_guard(m, request) : 0;
}

int fork_request_parse(struct fork_request *request, const char *text, size_t length,
	const char **about, char *why, size_t why_size)
{
	struct message m = { .why = why, .why_size = why_size };
	int bad;

	memset(request, 0, sizeof(*request));
	*about = "message";
	if (length > FORK_TEXT_MAX) {
		snprintf(why, why_size, "a message of at most %d bytes is wanted", FORK_TEXT_MAX);
		return -1;
	}
	bad = read_members(&m, text, length);
	/* What is wrong in the syntax goes before what is wrong with the type. */
	if (m.values[KEY_TYPE].kind && get_type(request, &m.values[KEY_TYPE])) {
		*about = fork_ask_name(request->ask);
	} else if (!bad) {
		bad = read_field(&m, request, KEY_TYPE);
	}
	return bad ? bad : read_fields(&m, request);
}

const char *fork_ask_name(enum fork_ask ask)
{
	return (size_t) ask < ASKS ? asks[ask].name : "message";
}
