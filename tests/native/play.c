/*
 * asterisk-dialog: prompts, for ctypes.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief News of fork_play as text; all else of it is called as it is. Guards are guard.c's.
 */

#include "guard.c"

#include "fork_play.h"

/*! \return what is wrong, NULL: done */
const char *play_guard(struct fork_play *play, const char *id, const char *name, const char *mode,
	long long at_ms)
{
	struct fork_guard_ask ask = ask_of(name, mode, FORK_KEPT_TAKE, 0);

	return fork_play_guard(play, id, &ask, at_ms);
}

/*! \brief The next news, or nothing: "played id how played_ms gap_ms skipped_ms", and so on. */
void play_news(struct fork_play *play, char *out, size_t size)
{
	struct fork_play_news n;

	out[0] = '\0';
	if (!fork_play_news(play, &n)) {
		return;
	}
	switch (n.what) {
	case FORK_NEWS_STARTED:
		snprintf(out, size, "started %s", n.play);
		break;
	case FORK_NEWS_MARK:
		snprintf(out, size, "mark %s %s %d", n.play, n.name, (int) n.played_ms);
		break;
	case FORK_NEWS_BUFFER:
		snprintf(out, size, "buffer %s %d %d", n.play, (int) n.played_ms, (int) n.buffered_ms);
		break;
	case FORK_NEWS_WRONG_RATE:
		snprintf(out, size, "wrong_rate %s", n.play);
		break;
	case FORK_NEWS_PLAYED:
		snprintf(out, size, "played %s %s %d %d %d", n.play, fork_play_how_name(n.how),
			(int) n.played_ms, (int) n.gap_ms, (int) n.skipped_ms);
		break;
	}
}
