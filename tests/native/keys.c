/*
 * asterisk-dialog: the keys' machine, for ctypes.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief Plain functions around fork_keys, callable from Python.
 */

#include <stdio.h>
#include <stdlib.h>

#include "fork_keys.h"

struct fork_keys *keys_new(void)
{
	return calloc(1, sizeof(struct fork_keys));
}

void keys_free(struct fork_keys *k)
{
	free(k);
}

/*! \retval -1 refused, nothing is changed */
int keys_set(struct fork_keys *k, const char *text)
{
	enum fork_keys_mode mode;
	uint16_t stopped;

	if (fork_keys_mode_parse(text, &mode, &stopped)) {
		return -1;
	}
	fork_keys_set(k, mode, stopped);
	return 0;
}

/*! \param kept enum fork_kept */
void keys_obey(struct fork_keys *k, const char *text, int kept, unsigned long long until_ms)
{
	struct fork_keys_order order = { .kept = (enum fork_kept) kept, .until_ms = until_ms };

	fork_keys_mode_parse(text, &order.mode, &order.stopped);
	fork_keys_obey(k, &order);
}

void keys_leave(struct fork_keys *k)
{
	fork_keys_leave(k);
}

void keys_look(struct fork_keys *k, unsigned long long now_ms)
{
	fork_keys_look(k, now_ms);
}

/*! \brief "pass" or "eat"; then, when a key is over, its digit, duration and verdict. */
static void show(bool pass, const struct fork_key_end *ended, char *out, size_t size)
{
	int used = snprintf(out, size, "%s", pass ? "pass" : "eat");

	if (ended->key.digit) {
		snprintf(out + used, size - (size_t) used, " %c %u %s", ended->key.digit,
			ended->key.duration_ms, fork_key_verdict_name(ended->verdict));
	}
}

void keys_begin(struct fork_keys *k, char digit, unsigned long long now_ms, char *out, size_t size)
{
	struct fork_key_end ended;
	bool pass = fork_keys_begin(k, digit, now_ms, &ended);

	show(pass, &ended, out, size);
}

void keys_end(struct fork_keys *k, char digit, unsigned int length_ms, unsigned long long now_ms,
	int begun, char *out, size_t size)
{
	struct fork_key_end ended;
	bool pass = fork_keys_end(k, digit, length_ms, now_ms, begun, &ended);

	show(pass, &ended, out, size);
}

/*! \brief The next key to go, "5 120"; empty: none is due. */
void keys_next(struct fork_keys *k, char *out, size_t size)
{
	out[0] = '\0';
	if (fork_keys_due(k)) {
		struct fork_key key = fork_keys_next(k);

		snprintf(out, size, "%c %u", key.digit, key.duration_ms);
	}
}

void keys_release(struct fork_keys *k, unsigned int count)
{
	fork_keys_release(k, count);
}

unsigned int keys_clear(struct fork_keys *k)
{
	return fork_keys_clear(k);
}

void keys_take(struct fork_keys *k, char *out)
{
	fork_keys_take(k, out);
}

void keys_status(const struct fork_keys *k, char *out)
{
	fork_keys_status(k, out);
}

int keys_idle(const struct fork_keys *k)
{
	return fork_keys_idle(k);
}

int key_known(int digit)
{
	return fork_key_known(digit);
}
