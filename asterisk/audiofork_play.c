/*
 * asterisk-dialog: AudioForkPlay(), audio of the fork's server into the call.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief Plays a prompt on the channel's own thread, and reads the channel meanwhile.
 *
 * The player holds a reference to its fork, and with it the link and all its prompts: those may be
 * over at any moment, but they do not go away. Frames are written by a schedule of absolute times:
 * after a delay all that have become due, so that none of it stays for the rest of the call.
 */

#include "audiofork_fork.h"

#include <sys/eventfd.h>
#include <time.h>

#include "asterisk/app.h"
#include "asterisk/file.h"
#include "asterisk/format.h"
#include "asterisk/format_cache.h"
#include "asterisk/frame.h"
#include "asterisk/logger.h"
#include "asterisk/pbx.h"
#include "asterisk/utils.h"

#include "fork_play.h"

#define SLOT_US 20000
#define SLOT_SAMPLES_MAX (48000 / 50)
#define START_MS 5000
#define GAP_MS 10000
#define LIMIT_MAX_MS 3600000
/* The longest sleep; nothing depends on it. */
#define NAP_MS 1000
#define GO_ON (-1)

struct play_options {
	char id[FORK_ID_MAX];
	unsigned int start_ms;
	unsigned int gap_ms;
	char keys[32];
};

struct player {
	struct ast_channel *chan;
	const struct play_options *options;
	struct audiofork *fork;
	struct fork_play *play;
	struct fork_prompt *prompt;
	int eventfd;
	unsigned int rate_hz;     /*!< 0: not known yet */
	struct ast_format *format;
	struct ast_format *format_before;
	int started;
	int flowing;              /*!< frames are written at next_us, and so on */
	uint64_t next_us;
	uint64_t waiting_us;      /*!< since when audio is missing, 0: it is not */
	char digit;
	int16_t room[AST_FRIENDLY_OFFSET / 2 + SLOT_SAMPLES_MAX];
};

static uint64_t clock_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t) now.tv_sec * 1000000 + (uint64_t) now.tv_nsec / 1000;
}

/* ---- options ---- */

static int set_option(struct play_options *o, char letter, const char *arg)
{
	char rest;

	switch (letter) {
	case 'p':
		if (!*arg || strlen(arg) >= sizeof(o->id)) {
			return -1;
		}
		ast_copy_string(o->id, arg, sizeof(o->id));
		return 0;
	case 't':
	case 'g':
		return sscanf(arg, "%30u%c", letter == 't' ? &o->start_ms : &o->gap_ms, &rest) == 1
			&& arg[0] != '-' && MAX(o->start_ms, o->gap_ms) <= LIMIT_MAX_MS ? 0 : -1;
	case 'e':
		if (strlen(arg) >= sizeof(o->keys) || strspn(arg, AST_DIGIT_ANY) != strlen(arg)) {
			return -1;
		}
		ast_copy_string(o->keys, S_OR(arg, AST_DIGIT_ANY), sizeof(o->keys));
		return 0;
	default:
		return -1;
	}
}

/*! \brief Stricter than Asterisk's own parser, which passes over what it does not know. */
static int parse_options(struct play_options *o, const char *text)
{
	memset(o, 0, sizeof(*o));
	o->start_ms = START_MS;
	o->gap_ms = GAP_MS;
	for (const char *c = S_OR(text, ""); *c; c++) {
		char letter = *c, arg[FORK_ID_MAX] = "";

		if (c[1] == '(') {
			size_t length = strcspn(c + 2, ")");

			if (!c[2 + length] || length >= sizeof(arg)) {
				return -1;
			}
			memcpy(arg, c + 2, length);
			c += length + 2;
		}
		if (set_option(o, letter, arg)) {
			return -1;
		}
	}
	return 0;
}

/* ---- out ---- */

/*! \brief The rate is known: have the channel take it. \retval -1 it cannot */
static int set_format(struct player *p)
{
	p->format = ast_format_cache_get_slin_by_rate(p->rate_hz);
	ast_stopstream(p->chan);
	ast_deactivate_generator(p->chan);
	p->format_before = ao2_bump(ast_channel_writeformat(p->chan));
	if (ast_set_write_format(p->chan, p->format)) {
		ast_log(LOG_WARNING, "AudioForkPlay on %s: the channel cannot be played audio of %u Hz\n",
			ast_channel_name(p->chan), p->rate_hz);
		return -1;
	}
	return 0;
}

static void restore_format(struct player *p)
{
	if (p->format_before && ast_set_write_format(p->chan, p->format_before)) {
		ast_log(LOG_WARNING, "AudioForkPlay on %s: cannot restore the format\n",
			ast_channel_name(p->chan));
	}
	ao2_cleanup(p->format_before);
}

/*! \brief Write one slot; what is missing of it is silence. */
static int write_slot(struct player *p, int16_t *samples, size_t count)
{
	size_t whole = p->rate_hz / 50;
	struct ast_frame frame = {
		.frametype = AST_FRAME_VOICE,
		.subclass.format = p->format,
		.data.ptr = samples,
		.datalen = (int) (whole * sizeof(*samples)),
		.samples = (int) whole,
		.offset = AST_FRIENDLY_OFFSET,
		.src = "AudioForkPlay",
	};

	memset(samples + count, 0, (whole - count) * sizeof(*samples));
	return ast_write(p->chan, &frame);
}

/*! \brief The samples were handed out at `now`: when is the next slot? */
static void advance(struct player *p, uint64_t now)
{
	p->next_us = (p->flowing ? p->next_us : now) + SLOT_US;
	p->started = p->flowing = 1;
	p->waiting_us = 0;
}

/*! \brief Write all that is due. \return GO_ON, or how the prompt has ended */
static int write_due(struct player *p)
{
	int16_t *samples = p->room + AST_FRIENDLY_OFFSET / 2;

	for (;;) {
		uint64_t now = clock_us();
		unsigned int rate = fork_play_rate(p->play, p->prompt);
		size_t count = rate / 50;
		enum fork_take taken;

		if (p->flowing && now < p->next_us) {
			return GO_ON;
		}
		if (rate && !p->rate_hz) {
			p->rate_hz = rate;
			if (set_format(p)) {
				return FORK_PLAY_LOST;
			}
		}
		taken = fork_play_take(p->play, p->prompt, samples, &count, now);
		fork_link_played(p->fork->link);
		if (taken == FORK_TAKE_OVER) {
			return FORK_PLAY_END; /* or otherwise: the prompt knows it */
		}
		if (taken == FORK_TAKE_AUDIO) {
			advance(p, now);
			if (write_slot(p, samples, count)) {
				return FORK_PLAY_HANGUP;
			}
			continue;
		}
		p->flowing = 0;
		p->waiting_us = taken == FORK_TAKE_PAUSED ? 0 : p->waiting_us ? p->waiting_us : now;
		if (rate || !fork_play_rate(p->play, p->prompt)) {
			return GO_ON; /* else `play` has come between the two looks */
		}
	}
}

/* ---- in ---- */

/*! \brief One frame of the channel. */
static int read_channel(struct player *p)
{
	struct ast_frame *frame = ast_read(p->chan);
	int how = GO_ON;

	if (!frame) {
		return FORK_PLAY_HANGUP;
	}
	if (frame->frametype == AST_FRAME_DTMF && frame->subclass.integer
		&& strchr(p->options->keys, frame->subclass.integer)) {
		p->digit = frame->subclass.integer;
		how = FORK_PLAY_DIGIT;
	} else if (frame->frametype == AST_FRAME_CONTROL
		&& (frame->subclass.integer == AST_CONTROL_HANGUP
			|| frame->subclass.integer == AST_CONTROL_BUSY
			|| frame->subclass.integer == AST_CONTROL_CONGESTION)) {
		how = FORK_PLAY_HANGUP;
	}
	ast_frfree(frame);
	return how;
}

/*! \brief Until when to sleep, should nothing happen. */
static uint64_t wake_us(const struct player *p, uint64_t now)
{
	unsigned int limit_ms = p->started ? p->options->gap_ms : p->options->start_ms;

	if (p->flowing) {
		return p->next_us;
	}
	return p->waiting_us ? p->waiting_us + (uint64_t) limit_ms * 1000
		: now + NAP_MS * 1000;
}

/*! \brief Sleep until a slot is due, the channel has a frame or the prompt some news. */
static int wait_and_read(struct player *p)
{
	uint64_t now = clock_us(), until = wake_us(p, now), counted;
	int ms, exception = 0, fd = -1;
	struct ast_channel *ready;

	if (p->waiting_us && until <= now) {
		return FORK_PLAY_TIMEOUT;
	}
	ms = until <= now ? 0 : MIN((until - now + 999) / 1000, NAP_MS);
	ready = ast_waitfor_nandfds(&p->chan, 1, &p->eventfd, 1, &exception, &fd, &ms);
	if (fd == p->eventfd && read(fd, &counted, sizeof(counted)) < 0) {
		ast_debug(1, "AudioForkPlay: %s\n", strerror(errno));
	}
	return ready ? read_channel(p) : GO_ON;
}

/* ---- the application ---- */

/*! \brief Play to the end, whatever that is. */
static enum fork_play_how play_prompt(struct player *p, uint64_t *played_ms)
{
	int only_ends = ast_test_flag(ast_channel_flags(p->chan), AST_FLAG_END_DTMF_ONLY);
	int how = ast_check_hangup(p->chan) ? FORK_PLAY_HANGUP : GO_ON;

	/* Keys count when they are released; Asterisk need not make up their beginnings. */
	ast_set_flag(ast_channel_flags(p->chan), AST_FLAG_END_DTMF_ONLY);
	while (how == GO_ON && (how = write_due(p)) == GO_ON) {
		how = wait_and_read(p);
	}
	if (!only_ends) {
		ast_clear_flag(ast_channel_flags(p->chan), AST_FLAG_END_DTMF_ONLY);
	}
	restore_format(p);
	how = fork_play_detach(p->play, p->prompt, how, played_ms);
	fork_link_played(p->fork->link);
	return how;
}

/*! \brief Attach, play, let go. \return the status */
static const char *play_fork(struct ast_channel *chan, struct audiofork *fork,
	const struct play_options *options, uint64_t *played_ms, char *digit)
{
	static const char *const names[] = {
		[FORK_PLAY_END] = "END", [FORK_PLAY_CLEAR] = "CLEAR", [FORK_PLAY_DIGIT] = "DIGIT",
		[FORK_PLAY_TIMEOUT] = "TIMEOUT", [FORK_PLAY_HANGUP] = "HANGUP", [FORK_PLAY_LOST] = "LOST",
	};
	struct player p = { .chan = chan, .options = options, .fork = fork,
		.play = fork_link_play(fork->link), .eventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) };
	enum fork_play_how how = FORK_PLAY_LOST;
	enum fork_attach attached;

	if (p.eventfd < 0) {
		ast_log(LOG_ERROR, "AudioForkPlay on %s: %s\n", ast_channel_name(chan), strerror(errno));
		return names[how];
	}
	attached = fork_play_attach(p.play, options->id, p.eventfd, &p.prompt, &how);
	if (attached == FORK_ATTACHED) {
		how = play_prompt(&p, played_ms);
		*digit = how == FORK_PLAY_DIGIT ? p.digit : '\0';
	} else if (attached == FORK_ATTACH_BUSY) {
		ast_log(LOG_WARNING, "AudioForkPlay on %s: prompt '%s' is played by somebody else, is a "
			"whisper, or too many are open\n", ast_channel_name(chan), options->id);
	}
	close(p.eventfd);
	return attached == FORK_ATTACH_BUSY ? "BADARGS" : names[how];
}

/*! \brief The fork of this id, or the channel's first one that has a server to play for. */
static struct audiofork *find_fork(struct ast_channel *chan, const char *id)
{
	struct audiofork *found = NULL;
	struct ast_datastore *datastore;

	ast_channel_lock(chan);
	/* The list begins with the latest. */
	AST_LIST_TRAVERSE(ast_channel_datastores(chan), datastore, entry) {
		struct audiofork *fork = datastore->data;

		if (datastore->info == &audiofork_datastore && fork_link_play(fork->link)
			&& (ast_strlen_zero(id) || !strcmp(id, fork->id))) {
			found = fork;
		}
	}
	ao2_bump(found);
	ast_channel_unlock(chan);
	return found;
}

int audiofork_play_exec(struct ast_channel *chan, const char *data)
{
	AST_DECLARE_APP_ARGS(args,
		AST_APP_ARG(fork);
		AST_APP_ARG(options);
	);
	char *parse = ast_strdupa(S_OR(data, "")), number[24], digit[2] = "";
	struct play_options options;
	const char *status = "NOFORK";
	struct audiofork *fork;
	uint64_t played_ms = 0;

	AST_STANDARD_APP_ARGS(args, parse);
	if (parse_options(&options, args.options)) {
		ast_log(LOG_WARNING, "AudioForkPlay on %s: bad options '%s'\n", ast_channel_name(chan),
			args.options);
		status = "BADARGS";
	} else if ((fork = find_fork(chan, args.fork))) {
		status = play_fork(chan, fork, &options, &played_ms, digit);
		ao2_ref(fork, -1);
	} else {
		ast_log(LOG_WARNING, "AudioForkPlay on %s: no fork %s with option j\n",
			ast_channel_name(chan), S_OR(args.fork, "at all"));
	}
	snprintf(number, sizeof(number), "%llu", (unsigned long long) played_ms);
	pbx_builtin_setvar_helper(chan, "AUDIOFORK_PLAY_STATUS", status);
	pbx_builtin_setvar_helper(chan, "AUDIOFORK_PLAY_MS", number);
	pbx_builtin_setvar_helper(chan, "AUDIOFORK_PLAY_DIGIT", digit);
	return strcmp(status, "HANGUP") ? 0 : -1;
}
