/*
 * asterisk-dialog: what a link tells its server.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief JSON messages: start, dropped, digit, hangup, stop, counters, errors and queued replies.
 *
 * docs/fork-protocol.md says what is in them. All of it runs on the service thread.
 */

#include "fork_link.h"

#include <string.h>

#define VERSION 2
/* `error` messages in a second; more are counted alone. */
#define ERRORS_PER_S 10
/* How far one direction's losses may be ahead of the other's and still be the same gap. */
#define SKEW_US 1000000
/* Limits of guards are logged once in so long. */
#define LIMIT_PAUSE_US 10000000

static char *text_room(struct fork_link *link)
{
	return (char *) link->message + LWS_PRE;
}

/*! \brief Write what has been put into text_room(). */
static int send_text(struct fork_link *link, struct fork_json *j)
{
	size_t length = fork_json_done(j);

	return length ? fork_wire_write(link, length, true) : 0;
}

/*! \brief The place in the stream: all audio messages before, and what was told as lost. */
static int64_t at_ms(struct fork_link *link)
{
	uint64_t messages = atomic_load_explicit(&link->messages_sent, memory_order_relaxed);

	return (int64_t) (messages * link->params.message_ms + link->told_of.gap_ms);
}

/* ---- counters ---- */

static void put_directions(struct fork_json *j, const char *key, const uint64_t us[FORK_DIRECTIONS])
{
	fork_json_open(j, key);
	fork_json_int(j, "in", (int64_t) (us[FORK_READ] / 1000));
	fork_json_int(j, "out", (int64_t) (us[FORK_WRITE] / 1000));
	fork_json_close(j);
}

static void put_counters(struct fork_json *j, struct fork_link *link)
{
	struct fork_stats stats;

	fork_link_stats(link, &stats);
	fork_json_open(j, "counters");
	put_directions(j, "captured_ms", stats.captured_us);
	put_directions(j, "dropped_ms", stats.dropped_us);
	fork_json_int(j, "messages", (int64_t) stats.messages_sent);
	fork_json_int(j, "connections", stats.connects);
	fork_json_int(j, "digits", stats.digits);
	fork_json_int(j, "digits_lost", stats.digits_lost);
	fork_json_int(j, "played_ms", (int64_t) stats.played_ms);
	fork_json_int(j, "bad_messages", stats.bad_messages);
	fork_json_close(j);
}

/* ---- start ---- */

static const char *direction_name(const struct fork_link_params *p)
{
	if (p->read && p->write) {
		return p->stereo ? "stereo" : "both";
	}
	return p->read ? "in" : "out";
}

static void put_facts(struct fork_json *j, const struct fork_facts *facts)
{
	fork_json_text(j, "uniqueid", facts->uniqueid);
	fork_json_text(j, "linkedid", facts->linkedid);
	fork_json_text(j, "caller_number", facts->caller_number);
	fork_json_text(j, "caller_name", facts->caller_name);
	fork_json_text(j, "called", facts->called);
}

static void put_shape(struct fork_json *j, struct fork_link *link)
{
	const struct fork_link_params *p = &link->params;

	fork_json_text(j, "direction", direction_name(p));
	fork_json_int(j, "rate", p->rate_hz_out);
	fork_json_int(j, "channels", p->stereo ? 2 : 1);
	fork_json_int(j, "message_ms", p->message_ms);
	fork_json_int(j, "channel_rate", p->rate_hz);
	fork_json_int(j, "play_buffer_ms", p->play_buffer_ms);
	fork_json_int(j, "connection", atomic_load(&link->connects));
	fork_json_int(j, "at_ms", at_ms(link));
}

/*! \brief The whole message with so many variables. \return its length, 0: too long */
static size_t put_start(struct fork_link *link, const char *name, unsigned int variables)
{
	static const struct fork_facts none;
	const struct fork_facts *facts = link->params.facts ? link->params.facts : &none;
	struct fork_json j;

	fork_json_begin(&j, text_room(link), FORK_TEXT_MAX, "start");
	fork_json_int(&j, "version", VERSION);
	fork_json_text(&j, "fork", link->params.id);
	fork_json_text(&j, "channel", name);
	put_facts(&j, facts);
	put_shape(&j, link);
	fork_json_open(&j, "variables");
	for (unsigned int i = 0; i < variables; i++) {
		fork_json_text(&j, facts->variable[i].name, facts->variable[i].value);
	}
	fork_json_close(&j);
	return fork_json_done(&j);
}

int fork_send_start(struct fork_link *link)
{
	unsigned int wanted = link->params.facts ? link->params.facts->variables : 0, put = wanted;
	char name[FORK_NAME_MAX], text[400];
	size_t length;

	pthread_mutex_lock(&link->lock);
	memcpy(name, link->name, sizeof(name));
	pthread_mutex_unlock(&link->lock);
	while (!(length = put_start(link, name, put)) && put) {
		put--;
	}
	if (put < wanted) {
		fork_say(FORK_LOG_WARNING, "%s: the last %u of the variables (option x) do not fit into "
			"the message start", fork_label(link, text, sizeof(text)), wanted - put);
	}
	return length ? fork_wire_write(link, length, true) : -1;
}

/* ---- what was lost, and the end ---- */

static uint64_t lost_us(struct fork_link *link, int direction)
{
	return atomic_load_explicit(&link->ring.dropped_us[direction], memory_order_relaxed);
}

/*! \brief Audio lost since it was last told; of two directions the longer loss. */
static uint64_t untold_ms(struct fork_link *link)
{
	uint64_t longest = 0;

	for (int d = 0; d < FORK_DIRECTIONS; d++) {
		uint64_t lost = lost_us(link, d), told = link->told_of.gap_us[d];

		if (lost > told && lost - told > longest) {
			longest = lost - told;
		}
	}
	return longest / 1000;
}

static int send_dropped(struct fork_link *link, uint64_t ms)
{
	struct fork_told *told = &link->told_of;
	struct fork_json j;

	fork_json_begin(&j, text_room(link), FORK_TEXT_MAX, "dropped");
	fork_json_int(&j, "ms", (int64_t) ms);
	fork_json_int(&j, "at_ms", at_ms(link));
	/* The directions lose the same time one after the other: what was told of the one accounts
	 * for the other's loss too, as long as that comes soon. */
	for (int d = 0; d < FORK_DIRECTIONS; d++) {
		uint64_t most = lost_us(link, d) + SKEW_US;

		told->gap_us[d] += ms * 1000;
		told->gap_us[d] = told->gap_us[d] < most ? told->gap_us[d] : most;
	}
	told->gap_ms += ms;
	return send_text(link, &j);
}

static int send_hangup(struct fork_link *link, int cause)
{
	struct fork_json j;

	link->told_of.hangup = true;
	fork_json_begin(&j, text_room(link), FORK_TEXT_MAX, "hangup");
	fork_json_int(&j, "cause", cause);
	fork_json_int(&j, "at_ms", at_ms(link));
	return send_text(link, &j);
}

int fork_send_stop(struct fork_link *link)
{
	char reason[FORK_REASON_MAX];
	struct fork_json j;

	pthread_mutex_lock(&link->lock);
	memcpy(reason, link->close_reason, sizeof(reason));
	pthread_mutex_unlock(&link->lock);
	link->told_of.stop = true;
	fork_json_begin(&j, text_room(link), FORK_TEXT_MAX, "stop");
	fork_json_text(&j, "reason", reason);
	fork_json_int(&j, "at_ms", at_ms(link));
	put_counters(&j, link);
	return send_text(link, &j);
}

/* ---- keys ---- */

bool fork_digit_place(struct fork_link *link)
{
	const struct fork_digit *digit = fork_digits_first(&link->guard.digits);

	if (!digit || link->told_of.digit_placed
		|| atomic_load_explicit(&link->ring.tail, memory_order_acquire) < digit->cell) {
		return false;
	}
	for (int d = 0; d < FORK_DIRECTIONS; d++) {
		const struct fork_fifo *fifo = &link->mixer.fifo[d];

		link->told_of.digit_at[d] = fifo->taken + fifo->count;
	}
	link->told_of.digit_placed = true;
	return true;
}

bool fork_digit_due(const struct fork_link *link)
{
	if (!link->told_of.digit_placed || link->told_of.stop) {
		return false;
	}
	/* What the mixer holds back comes first; less than a frame is not waited for. */
	for (int d = 0; d < FORK_DIRECTIONS; d++) {
		if (link->mixer.fifo[d].taken + link->mixer.frame <= link->told_of.digit_at[d]) {
			return false;
		}
	}
	return true;
}

/*! \brief Its server should have opened the keys, and has not. */
static void log_limit(struct fork_link *link, const struct fork_guard_note *note)
{
	uint64_t now = fork_now_us();
	char text[400];

	if (link->told_of.limit_us && now - link->told_of.limit_us < LIMIT_PAUSE_US) {
		return;
	}
	link->told_of.limit_us = now;
	fork_say(FORK_LOG_NOTICE, "%s: guard %s has reached its limit, keys pass now; its server has not "
		"opened them in time", fork_label(link, text, sizeof(text)), note->name);
}

static int send_guard(struct fork_link *link)
{
	struct fork_guard_note note;
	struct fork_json j;

	fork_guard_note(&link->guard, &note);
	if (note.why == FORK_GUARD_LIMIT) {
		log_limit(link, &note);
	}
	fork_json_begin(&j, text_room(link), FORK_TEXT_MAX, "guard");
	fork_json_text(&j, "name", note.name);
	fork_json_text(&j, "mode", fork_keys_mode_name(note.mode));
	if (note.why == FORK_GUARD_PLACE) {
		fork_json_text(&j, "play", note.play);
		fork_json_int(&j, "played_ms", (int64_t) note.played_ms);
	}
	fork_json_text(&j, "why", fork_guard_why_name(note.why));
	fork_json_int(&j, "at_ms", at_ms(link));
	return send_text(link, &j);
}

static int send_digit(struct fork_link *link, const struct fork_digit *first)
{
	struct fork_json j;

	fork_json_begin(&j, text_room(link), FORK_TEXT_MAX, "digit");
	fork_json_text(&j, "digit", (char []) { first->digit, '\0' });
	fork_json_int(&j, "duration_ms", first->duration_ms);
	fork_json_text(&j, "verdict", fork_key_verdict_name((enum fork_key_verdict) first->verdict));
	fork_json_int(&j, "at_ms", at_ms(link));
	return send_text(link, &j);
}

/*! \brief The oldest key or guard; should the connection break, it is lost with it. */
static int send_next(struct fork_link *link)
{
	const struct fork_digit *first = fork_digits_first(&link->guard.digits);
	int res = first->guard ? send_guard(link) : send_digit(link, first);

	fork_digits_pop(&link->guard.digits);
	link->told_of.digit_placed = false;
	return res;
}

/* ---- the queue ---- */

void fork_reply(struct fork_link *link, const char *text, size_t length)
{
	unsigned char *end;

	if (!link->replies || !length || length > FORK_TEXT_MAX
		|| FORK_REPLIES_BYTES - link->replies_used < length + 2) {
		atomic_fetch_add_explicit(&link->replies_lost, 1, memory_order_relaxed);
		return;
	}
	end = link->replies + link->replies_used;
	end[0] = (unsigned char) (length & 0xff);
	end[1] = (unsigned char) (length >> 8);
	memcpy(end + 2, text, length);
	link->replies_used += length + 2;
	if (link->wsi && atomic_load(&link->state) == FORK_UP) {
		fork_wire_want_write(link);
	}
}

void fork_reply_error(struct fork_link *link, const char *about, const char *why)
{
	struct fork_told *told = &link->told_of;
	uint64_t now = fork_now_us();
	char text[FORK_TEXT_MAX];
	struct fork_json j;

	atomic_fetch_add_explicit(&link->bad_messages, 1, memory_order_relaxed);
	if (!told->errors || now - told->errors_since_us >= 1000000) {
		told->errors_since_us = now;
		told->errors = 0;
	}
	if (told->errors >= ERRORS_PER_S) {
		return;
	}
	told->errors++;
	fork_json_begin(&j, text, sizeof(text), "error");
	fork_json_text(&j, "about", about);
	fork_json_text(&j, "why", why);
	fork_reply(link, text, fork_json_done(&j));
}

void fork_reply_counters(struct fork_link *link)
{
	char text[FORK_TEXT_MAX];
	struct fork_json j;

	fork_json_begin(&j, text, sizeof(text), "counters");
	put_counters(&j, link);
	fork_reply(link, text, fork_json_done(&j));
}

static int send_reply(struct fork_link *link)
{
	size_t length = link->replies[0] | (size_t) link->replies[1] << 8;

	memcpy(text_room(link), link->replies + 2, length);
	link->replies_used -= length + 2;
	memmove(link->replies, link->replies + 2 + length, link->replies_used);
	return fork_wire_write(link, length, true);
}

bool fork_tell_waits(struct fork_link *link)
{
	return link->replies_used || fork_digits_first(&link->guard.digits);
}

int fork_send_told(struct fork_link *link)
{
	int cause = atomic_load(&link->hangup_cause);
	uint64_t lost_ms = untold_ms(link);
	int res;

	if (link->told_of.stop) {
		return 0;
	}
	fork_digit_place(link);
	if (lost_ms) {
		res = send_dropped(link, lost_ms);
	} else if (cause >= 0 && !link->told_of.hangup) {
		res = send_hangup(link, cause);
	} else if (link->replies_used) {
		res = send_reply(link);
	} else if (fork_digit_due(link)) {
		res = send_next(link);
	} else {
		return 0;
	}
	return res ? -1 : 1;
}
