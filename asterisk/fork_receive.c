/*
 * asterisk-dialog: what the server says.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief Messages of the server, put together and obeyed; and what its prompts have to tell.
 *
 * All of it runs on the service thread, but for the functions of the one who plays.
 */

#include "fork_link.h"

#include <stdlib.h>
#include <string.h>

/* ---- requests ---- */

static void mute(struct fork_link *link, const struct fork_request *request)
{
	for (int d = 0; d < FORK_DIRECTIONS; d++) {
		if (request->direction[d]) {
			fork_link_mute(link, d, request->on);
		}
	}
}

/*! \return what is wrong, NULL: done */
static const char *guard(struct fork_link *link, const struct fork_request *request)
{
	struct fork_guard_ask ask = { .limit_ms = request->limit_ms, .order = {
		.mode = request->mode, .stopped = request->stopped, .kept = request->kept } };

	memcpy(ask.name, request->name, sizeof(ask.name));
	if (!link->params.keys) {
		return "the channel's keys are not seen";
	}
	if (request->play[0]) {
		return fork_play_guard(link->play, request->play, &ask, request->at_ms);
	}
	return fork_guard_now(&link->guard, &ask);
}

/*! \return what is wrong, NULL: done */
static const char *obey(struct fork_link *link, const struct fork_request *r)
{
	struct fork_play *play = link->play;

	switch (r->ask) {
	case FORK_ASK_PLAY:
		return fork_play_open(play, r->play, r->rate_hz, r->whisper, r->live_ms);
	case FORK_ASK_END:
		fork_play_end(play, r->play);
		break;
	case FORK_ASK_MARK:
		return fork_play_mark(play, r->play, r->name, r->at_ms);
	case FORK_ASK_GUARD:
		return guard(link, r);
	case FORK_ASK_CLEAR:
		fork_play_clear(play, r->play);
		break;
	case FORK_ASK_PAUSE:
	case FORK_ASK_RESUME:
		fork_play_pause(play, r->play, r->ask == FORK_ASK_PAUSE);
		break;
	case FORK_ASK_MUTE:
		mute(link, r);
		break;
	case FORK_ASK_STREAM:
		fork_link_stream(link, r->on);
		break;
	case FORK_ASK_COUNTERS:
		fork_reply_counters(link);
		break;
	case FORK_ASK_TEXT:
		fork_tell_said(link, r->text);
		break;
	case FORK_ASK_STOP:
		fork_link_close(link, "stopped by the server");
		break;
	}
	return NULL;
}

static void take_text(struct fork_link *link)
{
	struct fork_request request;
	const char *about = "message", *wrong;
	char why[FORK_REASON_MAX];

	if (link->inbox_used > FORK_TEXT_MAX) {
		fork_reply_error(link, about, "too long");
	} else if (fork_request_parse(&request, link->inbox, link->inbox_used, &about, why,
		sizeof(why))) {
		fork_reply_error(link, about, why);
	} else if ((wrong = obey(link, &request))) {
		fork_reply_error(link, fork_ask_name(request.ask), wrong);
	}
}

/*! \brief Put a text message together; of one that is too long only that is kept. */
static void add_text(struct fork_link *link, const char *bytes, size_t length, bool final)
{
	if (length > FORK_TEXT_MAX - link->inbox_used || link->inbox_used > FORK_TEXT_MAX) {
		link->inbox_used = FORK_TEXT_MAX + 1;
	} else {
		memcpy(link->inbox + link->inbox_used, bytes, length);
		link->inbox_used += length;
	}
	if (final) {
		take_text(link);
		link->inbox_used = 0;
	}
}

void fork_receive(struct fork_link *link, const void *bytes, size_t length, bool binary, bool final)
{
	const char *wrong;

	/* The fork is stopped: what the server still says is of no use. */
	if (link->flushing || atomic_load(&link->closing)) {
		return;
	}
	if (!binary) {
		add_text(link, bytes, length, final);
	} else if ((wrong = fork_play_write(link->play, bytes, length, final))) {
		fork_reply_error(link, "audio", wrong);
	}
	fork_tell_plays(link);
	if (fork_tell_waits(link)) {
		fork_wire_want_write(link); /* guards that have come in force */
	}
	if (fork_play_full(link->play)) {
		fork_wire_read(link, false);
	}
}

/* ---- news ---- */

static void put_played(struct fork_json *j, const struct fork_play_news *news)
{
	fork_json_text(j, "how", fork_play_how_name(news->how));
	fork_json_int(j, "played_ms", (int64_t) news->played_ms);
	fork_json_int(j, "gap_ms", (int64_t) news->gap_ms);
	fork_json_int(j, "skipped_ms", (int64_t) news->skipped_ms);
}

static void tell(struct fork_link *link, const struct fork_play_news *news)
{
	static const char *const types[] = { [FORK_NEWS_STARTED] = "started",
		[FORK_NEWS_MARK] = "mark", [FORK_NEWS_BUFFER] = "buffer", [FORK_NEWS_PLAYED] = "played" };
	char text[FORK_TEXT_MAX];
	struct fork_json j;

	if (news->what == FORK_NEWS_WRONG_RATE) {
		fork_reply_error(link, "play", "a whisper must have the channel's rate");
		return;
	}
	fork_json_begin(&j, text, sizeof(text), types[news->what]);
	fork_json_text(&j, "play", news->play);
	if (news->what == FORK_NEWS_MARK) {
		fork_json_text(&j, "name", news->name);
		fork_json_int(&j, "played_ms", (int64_t) news->played_ms);
	} else if (news->what == FORK_NEWS_BUFFER) {
		fork_json_int(&j, "played_ms", (int64_t) news->played_ms);
		fork_json_int(&j, "buffered_ms", (int64_t) news->buffered_ms);
	} else if (news->what == FORK_NEWS_PLAYED) {
		put_played(&j, news);
	}
	fork_reply(link, text, fork_json_done(&j));
}

void fork_tell_plays(struct fork_link *link)
{
	struct fork_play_news news;

	if (!link->play || !fork_play_calls(link->play)) {
		return;
	}
	while (fork_play_news(link->play, &news)) {
		atomic_fetch_add(&link->plays, news.what == FORK_NEWS_STARTED);
		tell(link, &news);
	}
	if (fork_play_has_room(link->play) && link->wsi) {
		fork_wire_read(link, true);
	}
}

void fork_receive_lost(struct fork_link *link)
{
	if (link->play) {
		link->inbox_used = 0;
		fork_play_lost(link->play, atomic_load(&link->dead));
		fork_tell_plays(link);
	}
}

/* ---- the one who plays; any thread ---- */

struct fork_play *fork_link_play(struct fork_link *link)
{
	return link->play;
}

void fork_link_played(struct fork_link *link)
{
	if (fork_play_calls(link->play)) {
		fork_tell_news(link);
	}
}

bool fork_link_play_clear(struct fork_link *link, const char *play)
{
	if (!link->play) {
		return false;
	}
	fork_play_clear(link->play, play);
	fork_link_played(link);
	return true;
}

bool fork_link_whisper(struct fork_link *link, int16_t *samples, size_t count, uint32_t rate_hz)
{
	bool changed;

	if (!link->play || !fork_play_whispers(link->play)) {
		return false;
	}
	changed = fork_play_whisper(link->play, samples, count, rate_hz, fork_now_us());
	fork_link_played(link);
	return changed;
}
