/*
 * asterisk-dialog: AMI actions of AudioFork.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief AMI: AudioFork, StopAudioFork, AudioForkMute, AudioForkPause, AudioForkPlayClear,
 * AudioForkList.
 *
 * All but the first take Channel, AudioForkID, or both: the fork must then be on that channel.
 */

#include "audiofork.h"

#include "asterisk/manager.h"
#include "asterisk/module.h"
#include "asterisk/strings.h"
#include "asterisk/utils.h"

#include "fork_message.h"

/*! \brief The channel of a request, or an error sent. \return with a reference */
static struct ast_channel *find_channel(struct mansession *s, const struct message *m)
{
	const char *name = astman_get_header(m, "Channel");
	struct ast_channel *chan;

	if (ast_strlen_zero(name)) {
		astman_send_error(s, m, "No channel specified");
		return NULL;
	}
	if (!(chan = ast_channel_get_by_name(name))) {
		astman_send_error(s, m, "No such channel");
	}
	return chan;
}

static int manager_start(struct mansession *s, const struct message *m)
{
	struct audiofork_request request = {
		.url = astman_get_header(m, "WsServer"),
		.options = astman_get_header(m, "Options"),
		.post_command = astman_get_header(m, "Command"),
	};
	const char *action_id = astman_get_header(m, "ActionID");
	struct ast_channel *chan = find_channel(s, m);
	struct audiofork_started started;

	if (!chan) {
		return AMI_SUCCESS;
	}
	if (audiofork_start(chan, &request, &started) == AUDIOFORK_STARTED) {
		astman_append(s, "Response: Success\r\n");
		if (!ast_strlen_zero(action_id)) {
			astman_append(s, "ActionID: %s\r\n", action_id);
		}
		astman_append(s, "AudioForkID: %s\r\n\r\n", started.id);
	} else {
		astman_send_error(s, m, started.why);
	}
	ast_channel_unref(chan);
	return AMI_SUCCESS;
}

/* ---- forks that there are ---- */

/*! \brief Which forks a request means; empty: any. */
struct meant {
	char channel[AST_CHANNEL_NAME];
	const char *id;
};

/*! \brief What the request names; the channel, be it given by its unique id, by its name. */
static int find_meant(struct mansession *s, const struct message *m, struct meant *meant)
{
	struct ast_channel *chan;

	meant->channel[0] = '\0';
	meant->id = astman_get_header(m, "AudioForkID");
	if (ast_strlen_zero(astman_get_header(m, "Channel"))) {
		if (ast_strlen_zero(meant->id)) {
			astman_send_error(s, m, "Channel or AudioForkID must be given");
			return -1;
		}
		return 0;
	}
	if (!(chan = find_channel(s, m))) {
		return -1;
	}
	ast_channel_lock(chan);
	ast_copy_string(meant->channel, ast_channel_name(chan), sizeof(meant->channel));
	ast_channel_unlock(chan);
	ast_channel_unref(chan);
	return 0;
}

/*! \brief The answer: whether there were such forks. */
static int answer(struct mansession *s, const struct message *m, const struct meant *meant,
	int count, char *done)
{
	if (count) {
		astman_send_ack(s, m, done);
	} else {
		astman_send_error(s, m, meant->channel[0] ? "No such AudioFork on the channel"
			: "No such AudioFork");
	}
	return AMI_SUCCESS;
}

static int manager_stop(struct mansession *s, const struct message *m)
{
	static const char reason[] = "StopAudioFork by AMI";
	struct ast_channel *chan = NULL;
	struct meant meant;
	int beep, count;

	if (find_meant(s, m, &meant)) {
		return AMI_SUCCESS;
	}
	if (!meant.channel[0]) {
		count = audiofork_stop_id(meant.id, reason, &beep);
	} else if ((chan = ast_channel_get_by_name(meant.channel))) {
		count = audiofork_stop(chan, meant.id, reason, &beep);
		ast_channel_unref(chan);
	} else {
		count = 0;
	}
	return answer(s, m, &meant, count, "AudioFork stopped");
}

/*! \brief The header State, or an error sent. \retval -1 it is neither yes nor no */
static int get_state(struct mansession *s, const struct message *m)
{
	const char *state = astman_get_header(m, "State");

	if (!ast_true(state) && !ast_false(state)) {
		astman_send_error(s, m, "State must be 1 or 0");
		return -1;
	}
	return ast_true(state) ? 1 : 0;
}

struct muting {
	int directions[FORK_DIRECTIONS];
	int on;
};

static void mute(struct fork_link *link, void *user)
{
	const struct muting *muting = user;

	for (int d = 0; d < FORK_DIRECTIONS; d++) {
		if (muting->directions[d]) {
			fork_link_mute(link, d, muting->on);
		}
	}
}

static int manager_mute(struct mansession *s, const struct message *m)
{
	const char *direction = S_OR(astman_get_header(m, "Direction"), "both");
	int both = !strcasecmp(direction, "both");
	struct muting muting = { .directions = {
		[FORK_READ] = both || !strcasecmp(direction, "read"),
		[FORK_WRITE] = both || !strcasecmp(direction, "write"),
	} };
	struct meant meant;

	if (!muting.directions[FORK_READ] && !muting.directions[FORK_WRITE]) {
		astman_send_error(s, m, "Direction must be read, write or both");
		return AMI_SUCCESS;
	}
	if ((muting.on = get_state(s, m)) < 0 || find_meant(s, m, &meant)) {
		return AMI_SUCCESS;
	}
	return answer(s, m, &meant, audiofork_apply(meant.channel, meant.id, mute, &muting),
		muting.on ? "AudioFork muted" : "AudioFork unmuted");
}

static void pause_stream(struct fork_link *link, void *user)
{
	const int *on = user;

	fork_link_stream(link, !*on);
}

static int manager_pause(struct mansession *s, const struct message *m)
{
	int on = get_state(s, m);
	struct meant meant;

	if (on < 0 || find_meant(s, m, &meant)) {
		return AMI_SUCCESS;
	}
	return answer(s, m, &meant, audiofork_apply(meant.channel, meant.id, pause_stream, &on),
		on ? "AudioFork paused" : "AudioFork resumed");
}

struct clearing {
	const char *play;
	int cleared;
};

static void clear_play(struct fork_link *link, void *user)
{
	struct clearing *clearing = user;

	clearing->cleared += fork_link_play_clear(link, clearing->play);
}

static int manager_play_clear(struct mansession *s, const struct message *m)
{
	static const char allowed[] = "0123456789._:-"
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	struct clearing clearing = { .play = astman_get_header(m, "Play") };
	struct meant meant;
	int count;

	if (clearing.play[strspn(clearing.play, allowed)] || strlen(clearing.play) >= FORK_ID_MAX) {
		astman_send_error(s, m, "Play must be 1 to 64 of A-Z a-z 0-9 . _ : -");
		return AMI_SUCCESS;
	}
	if (find_meant(s, m, &meant)) {
		return AMI_SUCCESS;
	}
	count = audiofork_apply(meant.channel, meant.id, clear_play, &clearing);
	if (count && !clearing.cleared) {
		astman_send_error(s, m, "The AudioFork plays nothing: it was started without option j");
		return AMI_SUCCESS;
	}
	return answer(s, m, &meant, count, "Playing ended");
}

/* ---- the list ---- */

struct listing {
	struct mansession *s;
	const char *action_id;
	struct meant meant;
	int count;
};

static void list_one(const struct audiofork_who *who, const struct fork_stats *stats, void *user)
{
	struct listing *l = user;
	char counters[AUDIOFORK_COUNTERS_SIZE];

	if (!ast_strlen_zero(l->meant.id) && strcmp(l->meant.id, who->id)) {
		return;
	}
	l->count++;
	astman_append(l->s, "Event: AudioForkList\r\n");
	if (!ast_strlen_zero(l->action_id)) {
		astman_append(l->s, "ActionID: %s\r\n", l->action_id);
	}
	astman_append(l->s, "AudioForkID: %s\r\nChannel: %s\r\nUniqueid: %s\r\nLinkedid: %s\r\n"
		"WsServer: %s\r\nDirection: %s\r\nState: %s\r\n%s\r\n", who->id, who->channel,
		who->uniqueid, who->linkedid, who->url, who->direction, fork_state_name(stats->state),
		audiofork_counters(stats, "", "\r\n", counters, sizeof(counters)));
}

static int manager_list(struct mansession *s, const struct message *m)
{
	struct listing l = { .s = s, .action_id = astman_get_header(m, "ActionID") };

	l.meant.id = astman_get_header(m, "AudioForkID");
	if (!ast_strlen_zero(astman_get_header(m, "Channel")) && find_meant(s, m, &l.meant)) {
		return AMI_SUCCESS;
	}
	astman_send_listack(s, m, "AudioForks will follow", "start");
	audiofork_each(l.meant.channel, list_one, &l);
	astman_send_list_complete_start(s, m, "AudioForkListComplete", l.count);
	astman_send_list_complete_end(s);
	return AMI_SUCCESS;
}

/* ---- registration ---- */

/* `system` is a class that may do anything; the others are what an action needs. */
static const struct {
	const char *name;
	int classes;
	int (*action)(struct mansession *s, const struct message *m);
} actions[] = {
	{ "AudioFork", EVENT_FLAG_SYSTEM | EVENT_FLAG_CALL, manager_start },
	{ "StopAudioFork", EVENT_FLAG_SYSTEM | EVENT_FLAG_CALL, manager_stop },
	{ "AudioForkMute", EVENT_FLAG_SYSTEM | EVENT_FLAG_CALL, manager_mute },
	{ "AudioForkPause", EVENT_FLAG_CALL, manager_pause },
	{ "AudioForkPlayClear", EVENT_FLAG_CALL, manager_play_clear },
	{ "AudioForkList", EVENT_FLAG_CALL | EVENT_FLAG_REPORTING, manager_list },
};

int audiofork_manage_init(void)
{
	for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
		if (ast_manager_register_xml(actions[i].name, actions[i].classes, actions[i].action)) {
			return -1;
		}
	}
	return 0;
}

void audiofork_manage_shutdown(void)
{
	for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
		ast_manager_unregister(actions[i].name);
	}
}
