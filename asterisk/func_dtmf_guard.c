/*
 * asterisk-dialog: DTMF_GUARD(), for the dialplan.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief The dialplan function DTMF_GUARD(): what is set, what is read. docs/keys.md describes it.
 */

#include "audiofork_guard.h"

#include "asterisk/logger.h"
#include "asterisk/module.h"
#include "asterisk/pbx.h"
#include "asterisk/strings.h"
#include "asterisk/utils.h"

/*! \brief Change the mode; the channel is locked. \retval -1 it stays */
static int set_mode(struct ast_channel *chan, const char *value)
{
	struct keys_guard *guard = audiofork_guard_find(chan);
	enum fork_keys_mode mode;
	uint16_t stopped;

	if (fork_keys_mode_parse(value, &mode, &stopped)) {
		ast_log(LOG_WARNING, "DTMF_GUARD(mode) on %s: '%s' is none of block, buffer, pass, off, "
			"block(0-9)\n", ast_channel_name(chan), value);
		return -1;
	}
	if (!guard && mode == FORK_KEYS_OFF) {
		return 0;
	}
	if (!(guard = audiofork_guard_of(chan)) || (mode != FORK_KEYS_OFF && audiofork_guard_attach(guard, chan))) {
		ast_log(LOG_WARNING, "DTMF_GUARD(mode) on %s: not set: no memory, or the channel is being "
			"hung up, or the module unloaded\n", ast_channel_name(chan));
		return -1;
	}
	/* Of this and what a fork's server wishes the later counts. */
	audiofork_guard_catch_up(guard, chan);
	audiofork_guard_disown(guard, chan);
	fork_keys_set(&guard->keys, mode, stopped);
	return 0;
}

static int set_release(struct ast_channel *chan, const char *value)
{
	struct keys_guard *guard = audiofork_guard_find(chan);
	unsigned int count = FORK_KEYS_MAX;

	if (strcasecmp(value, "all") && (strspn(value, "0123456789") != strlen(value)
		|| sscanf(value, "%9u", &count) != 1)) {
		ast_log(LOG_WARNING, "DTMF_GUARD(release) on %s: a number of keys, or all, is wanted, not "
			"'%s'\n", ast_channel_name(chan), value);
		return -1;
	}
	if (guard) {
		audiofork_guard_catch_up(guard, chan);
		fork_keys_release(&guard->keys, count);
	}
	return 0;
}

static int set_locked(struct ast_channel *chan, const char *what, const char *value)
{
	if (!strcasecmp(what, "mode")) {
		return set_mode(chan, value);
	}
	if (!strcasecmp(what, "release")) {
		return set_release(chan, value);
	}
	ast_log(LOG_WARNING, "DTMF_GUARD(%s) cannot be set: only mode and release can\n", what);
	return -1;
}

/*! \brief Set(DTMF_GUARD(mode)=…), Set(DTMF_GUARD(release)=…); from any thread */
static int guard_write(struct ast_channel *chan, const char *function, char *what,
	const char *value)
{
	struct keys_guard *guard;
	int res;

	if (!chan) {
		ast_log(LOG_WARNING, "DTMF_GUARD wants a channel\n");
		return -1;
	}
	ast_channel_lock(chan);
	res = set_locked(chan, S_OR(what, ""), ast_skip_blanks(value));
	if (!res && (guard = audiofork_guard_find(chan))) {
		if (guard->hook >= 0) {
			audiofork_guard_release(guard, chan);
		}
		audiofork_guard_rest(guard, chan);
	}
	ast_channel_unlock(chan);
	return res;
}

/*! \brief How long the mode is still in force, in ms; 0: there is no limit. */
static unsigned int limit_ms(const struct fork_keys *keys)
{
	uint64_t now_ms = audiofork_guard_now_ms();

	return keys->until_ms > now_ms ? (unsigned int) (keys->until_ms - now_ms) : 0;
}

/*! \brief The numbers that can be asked for. \retval -1 it is none of them */
static int read_number(struct fork_keys *keys, const char *what, unsigned int *number)
{
	const struct {
		const char *name;
		unsigned int value;
	} numbers[] = {
		{ "passed", keys->counters.passed }, { "blocked", keys->counters.blocked },
		{ "buffered", keys->counters.buffered }, { "overflow", keys->counters.overflow },
		{ "released", keys->counters.released }, { "taken", keys->counters.taken },
		{ "cleared", keys->counters.cleared }, { "waiting", keys->count },
		{ "limit", limit_ms(keys) },
	};

	if (!strcasecmp(what, "clear")) {
		*number = fork_keys_clear(keys);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		if (!strcasecmp(what, numbers[i].name)) {
			*number = numbers[i].value;
			return 0;
		}
	}
	return -1;
}

static int read_locked(struct fork_keys *keys, const char *what, char text[FORK_KEYS_STATUS_MAX])
{
	unsigned int number;

	if (!read_number(keys, what, &number)) {
		snprintf(text, FORK_KEYS_STATUS_MAX, "%u", number);
	} else if (ast_strlen_zero(what) || !strcasecmp(what, "status")) {
		fork_keys_status(keys, text);
	} else if (!strcasecmp(what, "mode")) {
		ast_copy_string(text, fork_keys_mode_name(keys->mode), FORK_KEYS_STATUS_MAX);
	} else if (!strcasecmp(what, "digits")) {
		fork_keys_stopped(keys, text);
	} else if (!strcasecmp(what, "keys")) {
		fork_keys_show(keys, text);
	} else if (!strcasecmp(what, "take")) {
		fork_keys_take(keys, text);
	} else {
		ast_log(LOG_WARNING, "DTMF_GUARD(%s): there is no such reading\n", what);
		return -1;
	}
	return 0;
}

/*! \brief ${DTMF_GUARD(…)}; a channel without a guard reads as off and zeros */
static int guard_read(struct ast_channel *chan, const char *function, char *what, char *room,
	size_t size)
{
	char text[FORK_KEYS_STATUS_MAX] = "";
	struct fork_keys none = { .mode = FORK_KEYS_OFF };
	struct keys_guard *guard;
	int res;

	if (!chan) {
		ast_log(LOG_WARNING, "DTMF_GUARD wants a channel\n");
		return -1;
	}
	ast_channel_lock(chan);
	guard = audiofork_guard_find(chan);
	if (guard) {
		audiofork_guard_catch_up(guard, chan);
	}
	res = read_locked(guard ? &guard->keys : &none, S_OR(what, ""), text);
	if (guard) {
		audiofork_guard_rest(guard, chan);
	}
	ast_channel_unlock(chan);
	ast_copy_string(room, text, size);
	return res;
}

static struct ast_custom_function guard_function = {
	.name = "DTMF_GUARD",
	.read = guard_read,
	.write = guard_write,
};

int audiofork_guard_register(void)
{
	return ast_custom_function_register(&guard_function);
}

void audiofork_guard_unregister(void)
{
	ast_custom_function_unregister(&guard_function);
}
