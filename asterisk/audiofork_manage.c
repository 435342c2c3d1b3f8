/*
 * asterisk-dialog: AMI actions and CLI of AudioFork.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief AMI: AudioFork, StopAudioFork, AudioForkMute. CLI: audiofork {start|stop|list}.
 */

#include "audiofork.h"

#include "asterisk/cli.h"
#include "asterisk/manager.h"
#include "asterisk/module.h"
#include "asterisk/strings.h"
#include "asterisk/utils.h"

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

static int manager_stop(struct mansession *s, const struct message *m)
{
	struct ast_channel *chan = find_channel(s, m);
	int beep;

	if (!chan) {
		return AMI_SUCCESS;
	}
	if (audiofork_stop(chan, astman_get_header(m, "AudioForkID"), "StopAudioFork by AMI", &beep)) {
		astman_send_ack(s, m, "AudioFork stopped");
	} else {
		astman_send_error(s, m, "No such AudioFork on the channel");
	}
	ast_channel_unref(chan);
	return AMI_SUCCESS;
}

static int manager_mute(struct mansession *s, const struct message *m)
{
	const char *direction = S_OR(astman_get_header(m, "Direction"), "both");
	const char *state = astman_get_header(m, "State");
	int both = !strcasecmp(direction, "both");
	int read = both || !strcasecmp(direction, "read");
	int write = both || !strcasecmp(direction, "write");
	struct ast_channel *chan;

	if (!read && !write) {
		astman_send_error(s, m, "Direction must be read, write or both");
		return AMI_SUCCESS;
	}
	if (!ast_true(state) && !ast_false(state)) {
		astman_send_error(s, m, "State must be 1 or 0");
		return AMI_SUCCESS;
	}
	if (!(chan = find_channel(s, m))) {
		return AMI_SUCCESS;
	}
	if (audiofork_mute(chan, astman_get_header(m, "AudioForkID"), read, write, ast_true(state))) {
		astman_send_ack(s, m, ast_true(state) ? "AudioFork muted" : "AudioFork unmuted");
	} else {
		astman_send_error(s, m, "No such AudioFork on the channel");
	}
	ast_channel_unref(chan);
	return AMI_SUCCESS;
}

/* 20 ms frames in so many microseconds */
#define FRAMES(us) ((unsigned long long) ((us) / 20000))

static void print_line(const struct audiofork_line *line, void *user)
{
	const struct ast_cli_args *a = user;
	const struct fork_stats *stats = &line->stats;

	ast_cli(a->fd, "%s  %-40s %s\n", line->id, line->channel, line->url);
	ast_cli(a->fd, "    %s, %s; frames captured in %llu, out %llu; sent %llu; dropped in %llu, "
		"out %llu; waiting %llu; reconnects %u\n",
		line->direction, fork_state_name(stats->state), FRAMES(stats->captured_us[FORK_READ]),
		FRAMES(stats->captured_us[FORK_WRITE]), (unsigned long long) stats->frames_sent,
		FRAMES(stats->dropped_us[FORK_READ]), FRAMES(stats->dropped_us[FORK_WRITE]),
		(unsigned long long) stats->waiting_cells, stats->connects ? stats->connects - 1 : 0);
}

static char *cli_list(const struct ast_cli_args *a)
{
	int count = audiofork_each(a->argc > 2 ? a->argv[2] : NULL, print_line, (void *) a);

	ast_cli(a->fd, "%d AudioFork(s)\n", count);
	return CLI_SUCCESS;
}

static char *cli_start(const struct ast_cli_args *a, struct ast_channel *chan)
{
	struct audiofork_request request = {
		.url = a->argv[3],
		.options = a->argc > 4 ? a->argv[4] : NULL,
	};
	struct audiofork_started started;

	if (audiofork_start(chan, &request, &started) != AUDIOFORK_STARTED) {
		ast_cli(a->fd, "Not started: %s\n", started.why);
		return CLI_FAILURE;
	}
	ast_cli(a->fd, "AudioFork %s started\n", started.id);
	return CLI_SUCCESS;
}

static char *cli_stop(const struct ast_cli_args *a, struct ast_channel *chan)
{
	int beep;
	int count = audiofork_stop(chan, a->argc > 3 ? a->argv[3] : NULL, "CLI", &beep);

	ast_cli(a->fd, "%d AudioFork(s) stopped\n", count);
	return count ? CLI_SUCCESS : CLI_FAILURE;
}

static char *cli_do(const struct ast_cli_args *a)
{
	int start = !strcasecmp(a->argv[1], "start");
	struct ast_channel *chan;
	char *result;

	if (!strcasecmp(a->argv[1], "list")) {
		return a->argc > 3 ? CLI_SHOWUSAGE : cli_list(a);
	}
	if (a->argc < (start ? 4 : 3) || a->argc > (start ? 5 : 4)) {
		return CLI_SHOWUSAGE;
	}
	if (!(chan = ast_channel_get_by_name(a->argv[2]))) {
		ast_cli(a->fd, "There is no channel %s\n", a->argv[2]);
		return CLI_FAILURE;
	}
	result = start ? cli_start(a, chan) : cli_stop(a, chan);
	ast_channel_unref(chan);
	return result;
}

static char *cli_audiofork(struct ast_cli_entry *e, int cmd, struct ast_cli_args *a)
{
	switch (cmd) {
	case CLI_INIT:
		e->command = "audiofork {start|stop|list}";
		e->usage =
			"Usage: audiofork start <channel> <wsurl> [<options>]\n"
			"       audiofork stop <channel> [<id>]\n"
			"       audiofork list [<channel>]\n"
			"       Start, stop or show what is forked to WebSockets. Options as in\n"
			"       the application AudioFork. Frames are of 20 ms.\n";
		return NULL;
	case CLI_GENERATE:
		return a->pos == 2 ? ast_complete_channels(a->line, a->word, a->pos, a->n, 2) : NULL;
	default:
		return a->argc < 2 ? CLI_SHOWUSAGE : cli_do(a);
	}
}

static struct ast_cli_entry cli_entries[] = {
	AST_CLI_DEFINE(cli_audiofork, "Fork a call's audio to a WebSocket"),
};

int audiofork_manage_init(void)
{
	return ast_manager_register_xml("AudioFork", EVENT_FLAG_SYSTEM | EVENT_FLAG_CALL, manager_start)
		|| ast_manager_register_xml("StopAudioFork", EVENT_FLAG_SYSTEM | EVENT_FLAG_CALL,
			manager_stop)
		|| ast_manager_register_xml("AudioForkMute", EVENT_FLAG_SYSTEM | EVENT_FLAG_CALL,
			manager_mute)
		|| ast_cli_register_multiple(cli_entries, ARRAY_LEN(cli_entries));
}

void audiofork_manage_shutdown(void)
{
	ast_manager_unregister("AudioFork");
	ast_manager_unregister("StopAudioFork");
	ast_manager_unregister("AudioForkMute");
	ast_cli_unregister_multiple(cli_entries, ARRAY_LEN(cli_entries));
}
