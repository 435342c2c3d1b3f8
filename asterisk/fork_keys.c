/*
 * asterisk-dialog: keys during prompts.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

#include "fork_keys.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char all_keys[] = FORK_KEYS_ALL;

/* ---- names ---- */

/*! \return the key's bit, 0: not a key */
static uint16_t bit_of(int digit)
{
	const char *found = digit > 0 && digit < 128 ? strchr(all_keys, toupper(digit)) : NULL;

	return found ? (uint16_t) (1u << (found - all_keys)) : 0;
}

bool fork_key_known(int digit)
{
	return bit_of(digit) != 0;
}

static const char *const mode_names[] = {
	[FORK_KEYS_OFF] = "off", [FORK_KEYS_PASS] = "pass",
	[FORK_KEYS_BLOCK] = "block", [FORK_KEYS_BUFFER] = "buffer",
};

const char *fork_keys_mode_name(enum fork_keys_mode mode)
{
	return mode_names[mode];
}

const char *fork_key_verdict_name(enum fork_key_verdict verdict)
{
	static const char *const names[] = {
		[FORK_KEY_PASSED] = "passed", [FORK_KEY_BLOCKED] = "blocked",
		[FORK_KEY_BUFFERED] = "buffered", [FORK_KEY_RELEASED] = "released",
	};

	return names[verdict];
}

const char *fork_kept_name(enum fork_kept kept)
{
	static const char *const names[] = {
		[FORK_KEPT_TAKE] = "take", [FORK_KEPT_RELEASE] = "release", [FORK_KEPT_STAY] = "stay",
	};

	return names[kept];
}

/*! \brief "0-9*", and `end` after it. */
static int parse_digits(const char *text, const char *end, uint16_t *digits)
{
	*digits = 0;
	for (; *text && *text != ')'; text++) {
		if (!bit_of(*text)) {
			return -1;
		}
		if (text[1] == '-') {
			if (!isdigit((unsigned char) text[0]) || !isdigit((unsigned char) text[2])
				|| text[0] > text[2]) {
				return -1;
			}
			for (char digit = text[0]; digit <= text[2]; digit++) {
				*digits |= bit_of(digit);
			}
			text += 2;
		} else {
			*digits |= bit_of(*text);
		}
	}
	return *digits && !strcmp(text, end) ? 0 : -1;
}

int fork_keys_digits_parse(const char *text, uint16_t *stopped)
{
	return parse_digits(text, "", stopped);
}

int fork_keys_mode_parse(const char *text, enum fork_keys_mode *mode, uint16_t *stopped)
{
	size_t length = strcspn(text, "(");

	for (unsigned int i = 0; i < sizeof(mode_names) / sizeof(*mode_names); i++) {
		if (strlen(mode_names[i]) != length || strncasecmp(text, mode_names[i], length)) {
			continue;
		}
		*mode = (enum fork_keys_mode) i;
		*stopped = FORK_KEYS_EVERY;
		if (!text[length]) {
			return 0;
		}
		return i == FORK_KEYS_BLOCK || i == FORK_KEYS_BUFFER
			? parse_digits(text + length + 1, ")", stopped) : -1;
	}
	return -1;
}

/* ---- the buffer ---- */

static void keep(struct fork_keys *k, struct fork_key key)
{
	k->kept[(k->first + k->count++) % FORK_KEYS_MAX] = key;
	k->counters.buffered++;
}

static struct fork_key drop_first(struct fork_keys *k)
{
	struct fork_key key = k->kept[k->first];

	k->first = (k->first + 1) % FORK_KEYS_MAX;
	k->count--;
	return key;
}

static bool is_open(const struct fork_keys *k)
{
	return k->mode == FORK_KEYS_PASS || k->mode == FORK_KEYS_OFF;
}

bool fork_keys_due(const struct fork_keys *k)
{
	return k->count && ((is_open(k) && !k->stay) || k->due);
}

struct fork_key fork_keys_next(struct fork_keys *k)
{
	struct fork_key key = drop_first(k);

	if (k->due) {
		k->due--;
	}
	k->counters.released++;
	if (key.duration_ms > FORK_KEY_RELEASE_MAX_MS) {
		key.duration_ms = FORK_KEY_RELEASE_MAX_MS;
	}
	return key;
}

void fork_keys_release(struct fork_keys *k, unsigned int count)
{
	k->due = count < k->count - k->due ? k->due + count : k->count;
}

static unsigned int empty(struct fork_keys *k)
{
	unsigned int count = k->count;

	k->first = k->count = k->due = 0;
	return count;
}

unsigned int fork_keys_clear(struct fork_keys *k)
{
	unsigned int count = empty(k);

	k->counters.cleared += count;
	return count;
}

void fork_keys_show(const struct fork_keys *k, char text[FORK_KEYS_MAX + 1])
{
	for (unsigned int i = 0; i < k->count; i++) {
		text[i] = k->kept[(k->first + i) % FORK_KEYS_MAX].digit;
	}
	text[k->count] = '\0';
}

void fork_keys_take(struct fork_keys *k, char text[FORK_KEYS_MAX + 1])
{
	fork_keys_show(k, text);
	k->counters.taken += empty(k);
}

/* ---- the machine ---- */

static enum fork_key_verdict judge(const struct fork_keys *k, char digit)
{
	if (is_open(k)) {
		return k->count && !k->stay ? FORK_KEY_BUFFERED : FORK_KEY_PASSED;
	}
	if (!(k->stopped & bit_of(digit))) {
		return FORK_KEY_PASSED;
	}
	return k->mode == FORK_KEYS_BLOCK ? FORK_KEY_BLOCKED : FORK_KEY_BUFFERED;
}

/*! \brief A judged key is over: count it, keep it if that is its fate. */
static void settle(struct fork_keys *k, struct fork_key key, enum fork_key_verdict verdict,
	struct fork_key_end *ended)
{
	if (verdict == FORK_KEY_PASSED) {
		k->counters.passed++;
	} else if (verdict == FORK_KEY_BLOCKED) {
		k->counters.blocked++;
	} else if (k->count < FORK_KEYS_MAX) {
		keep(k, key);
	} else {
		k->counters.overflow++;
		verdict = FORK_KEY_BLOCKED;
	}
	*ended = (struct fork_key_end) { .key = key, .verdict = verdict };
}

static void settle_held(struct fork_keys *k, unsigned int length_ms, uint64_t now_ms,
	struct fork_key_end *ended)
{
	struct fork_key key = k->held;

	key.duration_ms = length_ms ? length_ms : (unsigned int) (now_ms - k->held_since_ms);
	k->held.digit = '\0';
	if (k->held_taken) {
		k->held_taken = false;
		k->counters.buffered++;
		k->counters.taken++;
		*ended = (struct fork_key_end) { .key = key, .verdict = FORK_KEY_BUFFERED };
	} else {
		settle(k, key, k->held_verdict, ended);
	}
}

bool fork_keys_begin(struct fork_keys *k, char digit, uint64_t now_ms, struct fork_key_end *ended)
{
	ended->key.digit = '\0';
	if (k->held.digit) {
		settle_held(k, 0, now_ms, ended);
	}
	k->held.digit = digit;
	k->held_since_ms = now_ms;
	fork_keys_look(k, now_ms);
	k->held_verdict = judge(k, digit);
	return k->held_verdict == FORK_KEY_PASSED;
}

bool fork_keys_end(struct fork_keys *k, char digit, unsigned int length_ms, uint64_t now_ms,
	bool begun, struct fork_key_end *ended)
{
	if (k->held.digit == digit) {
		settle_held(k, length_ms, now_ms, ended);
		return k->held_verdict == FORK_KEY_PASSED;
	}
	fork_keys_look(k, now_ms);
	settle(k, (struct fork_key) { .digit = digit, .duration_ms = length_ms },
		begun && !k->held.digit ? FORK_KEY_PASSED : judge(k, digit), ended);
	return ended->verdict == FORK_KEY_PASSED;
}

void fork_keys_set(struct fork_keys *k, enum fork_keys_mode mode, uint16_t stopped)
{
	k->mode = mode;
	k->stopped = stopped;
	k->stay = false;
	k->until_ms = 0;
}

void fork_keys_obey(struct fork_keys *k, const struct fork_keys_order *order)
{
	if (order->kept == FORK_KEPT_TAKE) {
		k->counters.taken += empty(k);
		k->held_taken = k->held.digit && k->held_verdict == FORK_KEY_BUFFERED;
	} else if (order->kept == FORK_KEPT_RELEASE) {
		fork_keys_release(k, k->count);
	}
	fork_keys_set(k, order->mode, order->stopped);
	k->stay = order->kept == FORK_KEPT_STAY;
	k->until_ms = order->until_ms;
}

void fork_keys_leave(struct fork_keys *k)
{
	fork_keys_set(k, FORK_KEYS_PASS, FORK_KEYS_EVERY);
	k->stay = true;
}

void fork_keys_look(struct fork_keys *k, uint64_t now_ms)
{
	if (k->until_ms && now_ms >= k->until_ms) {
		fork_keys_leave(k);
	}
}

bool fork_keys_idle(const struct fork_keys *k)
{
	return k->mode == FORK_KEYS_OFF && !k->count && !k->held.digit;
}

/* ---- what is told ---- */

void fork_keys_stopped(const struct fork_keys *k, char text[sizeof(FORK_KEYS_ALL)])
{
	if (!is_open(k)) {
		for (const char *c = all_keys; *c; c++) {
			if (k->stopped & bit_of(*c)) {
				*text++ = *c;
			}
		}
	}
	*text = '\0';
}

void fork_keys_status(const struct fork_keys *k, char text[FORK_KEYS_STATUS_MAX])
{
	const struct fork_keys_counters *c = &k->counters;
	char digits[sizeof(FORK_KEYS_ALL)];
	char kept[FORK_KEYS_MAX + 1];

	fork_keys_stopped(k, digits);
	fork_keys_show(k, kept);
	snprintf(text, FORK_KEYS_STATUS_MAX, "mode=%s,digits=%s,passed=%u,blocked=%u,buffered=%u,"
		"overflow=%u,released=%u,taken=%u,cleared=%u,waiting=%u,keys=%s",
		mode_names[k->mode], digits, c->passed, c->blocked, c->buffered, c->overflow, c->released,
		c->taken, c->cleared, k->count, kept);
}
