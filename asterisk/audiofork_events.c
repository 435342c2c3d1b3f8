/*
 * asterisk-dialog: AMI events and counters of AudioFork.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief What the world is told of forks, on the service thread.
 *
 * manager_event() is called directly: it formats, appends to Asterisk's list of events and
 * signals the sessions (main/manager.c). The locks it takes are held for that only, never while a
 * session writes to its client, so a client that does not read delays no fork. That list has no
 * bound: what a server could raise at will, AudioForkText, is bounded here.
 */

#include "audiofork.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "asterisk/logger.h"
#include "asterisk/manager.h"
#include "asterisk/strings.h"
#include "asterisk/time.h"
#include "asterisk/utils.h"

#include "fork_message.h"

#define WHO_FORMAT "AudioForkID: %s\r\nChannel: %s\r\nUniqueid: %s\r\nLinkedid: %s\r\n" \
	"WsServer: %s\r\n"
#define WHO(who) (who)->id, (who)->channel, (who)->uniqueid, (who)->linkedid, (who)->url

static clockid_t service_clock;
static atomic_bool service_clock_known;

/*! \brief UTF-8 as one line: each control character, C0, DEL or C1, becomes a space. */
static const char *one_line(char *room, size_t size, const char *text)
{
	char *to = room;

	while (*text && to < room + size - 1) {
		unsigned char c = (unsigned char) *text++;
		unsigned char next = (unsigned char) *text;

		if (c == 0xc2 && next >= 0x80 && next < 0xa0) {
			text++;
			c = ' ';
		}
		*to++ = (char) (c < ' ' || c == 0x7f ? ' ' : c);
	}
	*to = '\0';
	return room;
}

void audiofork_event(const struct audiofork_who *who, enum fork_event what, const char *reason,
	int64_t ms, const struct fork_stats *stats)
{
	char line[FORK_REASON_MAX];

	switch (what) {
	case FORK_EVENT_OPENED:
		if (!atomic_load(&service_clock_known)
			&& !pthread_getcpuclockid(pthread_self(), &service_clock)) {
			atomic_store(&service_clock_known, true);
		}
		manager_event(EVENT_FLAG_CALL, "AudioForkStart", WHO_FORMAT "Direction: %s\r\n",
			WHO(who), who->direction);
		break;
	case FORK_EVENT_CONNECTED:
		manager_event(EVENT_FLAG_CALL, "AudioForkConnected", WHO_FORMAT "Connection: %u\r\n",
			WHO(who), stats->connects);
		break;
	case FORK_EVENT_DISCONNECTED:
		manager_event(EVENT_FLAG_CALL, "AudioForkDisconnected", WHO_FORMAT
			"Connection: %u\r\nReason: %s\r\nRetry: %s\r\nRetryMs: %lld\r\n", WHO(who),
			stats->connects, one_line(line, sizeof(line), reason), ms < 0 ? "No" : "Yes",
			(long long) MAX(ms, 0));
		break;
	case FORK_EVENT_OVERRUN:
		manager_event(EVENT_FLAG_CALL, "AudioForkOverrun", WHO_FORMAT
			"LostMs: %lld\r\nDroppedInMs: %llu\r\nDroppedOutMs: %llu\r\n", WHO(who),
			(long long) ms, (unsigned long long) stats->dropped_us[FORK_READ] / 1000,
			(unsigned long long) stats->dropped_us[FORK_WRITE] / 1000);
		break;
	}
}

void audiofork_event_stop(const struct audiofork_who *who, const char *reason,
	const struct fork_stats *stats)
{
	char counters[AUDIOFORK_COUNTERS_SIZE], line[FORK_REASON_MAX];

	manager_event(EVENT_FLAG_CALL, "AudioForkStop", WHO_FORMAT "Reason: %s\r\n%s", WHO(who),
		one_line(line, sizeof(line), reason),
		audiofork_counters(stats, "", "\r\n", counters, sizeof(counters)));
}

void audiofork_event_text(const struct audiofork_who *who, struct audiofork_texts *texts,
	const char *text)
{
	struct timeval now = ast_tvnow();
	int64_t age_ms = ast_tvdiff_ms(now, texts->since);
	char line[FORK_SAID_MAX];

	if (age_ms < 0 || age_ms >= 1000) {
		texts->since = now;
		texts->count = 0;
	}
	if (++texts->count <= AUDIOFORK_TEXTS_MAX) {
		manager_event(EVENT_FLAG_CALL, "AudioForkText", WHO_FORMAT "Text: %s\r\n", WHO(who),
			one_line(line, sizeof(line), text));
	} else if (texts->count == AUDIOFORK_TEXTS_MAX + 1) {
		ast_log(LOG_WARNING, "AudioFork %s of %s: the server sends more than %d texts a second; "
			"the others are passed over\n", who->id, who->channel, AUDIOFORK_TEXTS_MAX);
	}
}

/* ---- counters ---- */

char *audiofork_counters(const struct fork_stats *stats, const char *before, const char *after,
	char *text, size_t size)
{
	const struct {
		const char *name;
		unsigned long long value;
	} counters[] = {
		{ "CapturedInMs", stats->captured_us[FORK_READ] / 1000 },
		{ "CapturedOutMs", stats->captured_us[FORK_WRITE] / 1000 },
		{ "DroppedInMs", stats->dropped_us[FORK_READ] / 1000 },
		{ "DroppedOutMs", stats->dropped_us[FORK_WRITE] / 1000 },
		{ "Overruns", stats->overruns },
		{ "Messages", stats->messages_sent },
		{ "Bytes", stats->bytes_sent },
		{ "Connections", stats->connects },
		{ "Failures", stats->failures },
		{ "Digits", stats->digits },
		{ "DigitsLost", stats->digits_lost },
		{ "Plays", stats->plays },
		{ "PlayedMs", stats->played_ms },
		{ "BadMessages", stats->bad_messages },
		{ "RepliesLost", stats->replies_lost },
	};
	size_t used = 0;

	text[0] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(counters) && used < size; i++) {
		used += snprintf(text + used, size - used, "%s%s: %llu%s", before, counters[i].name,
			counters[i].value, after);
	}
	return text;
}

void audiofork_add_stats(struct fork_stats *sum, const struct fork_stats *stats)
{
	for (int d = 0; d < FORK_DIRECTIONS; d++) {
		sum->captured_us[d] += stats->captured_us[d];
		sum->dropped_us[d] += stats->dropped_us[d];
	}
	sum->overruns += stats->overruns;
	sum->messages_sent += stats->messages_sent;
	sum->bytes_sent += stats->bytes_sent;
	sum->connects += stats->connects;
	sum->failures += stats->failures;
	sum->digits += stats->digits;
	sum->digits_lost += stats->digits_lost;
	sum->plays += stats->plays;
	sum->played_ms += stats->played_ms;
	sum->bad_messages += stats->bad_messages;
	sum->replies_lost += stats->replies_lost;
}

double audiofork_service_cpu_s(void)
{
	struct timespec used;

	if (!atomic_load(&service_clock_known) || clock_gettime(service_clock, &used)) {
		return -1;
	}
	return used.tv_sec + used.tv_nsec / 1e9;
}
