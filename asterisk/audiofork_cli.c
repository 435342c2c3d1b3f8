/*
 * asterisk-dialog: the CLI of AudioFork.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief CLI: audiofork {start|stop|list|show|stats}.
 */

#include "audiofork.h"

#include "asterisk/cli.h"
#include "asterisk/strings.h"
#include "asterisk/time.h"
#include "asterisk/utils.h"

/* ---- what there is ---- */

static void print_row(const struct audiofork_who *who, const struct fork_stats *stats, void *user)
{
	const struct ast_cli_args *a = user;

	ast_cli(a->fd, "%s %-10s %-6s %9.1f %7.1f  %-40s %s\n", who->id,
		fork_state_name(stats->state), who->direction,
		(stats->captured_us[FORK_READ] + stats->captured_us[FORK_WRITE]) / 1e6,
		(stats->dropped_us[FORK_READ] + stats->dropped_us[FORK_WRITE]) / 1e6, who->channel,
		who->url);
}

static char *cli_list(const struct ast_cli_args *a)
{
	int count;

	ast_cli(a->fd, "%-36s %-10s %-6s %9s %7s  %-40s %s\n", "AudioForkID", "State", "Audio",
		"Seconds", "Lost", "Channel", "WsServer");
	count = audiofork_each(a->argc > 2 ? a->argv[2] : NULL, print_row, (void *) a);
	ast_cli(a->fd, "%d AudioFork(s)\n", count);
	return CLI_SUCCESS;
}

static void print_details(const struct audiofork_who *who, const struct fork_stats *stats,
	void *user)
{
	const struct ast_cli_args *a = user;
	char counters[AUDIOFORK_COUNTERS_SIZE];

	ast_cli(a->fd, "AudioFork %s\n  Channel: %s\n  Uniqueid: %s\n  Linkedid: %s\n  WsServer: %s\n"
		"  Direction: %s\n  State: %s\n%s  WaitingCells: %llu\n", who->id, who->channel,
		who->uniqueid, who->linkedid, who->url, who->direction, fork_state_name(stats->state),
		audiofork_counters(stats, "  ", "\n", counters, sizeof(counters)),
		(unsigned long long) stats->waiting_cells);
}

static char *cli_show(const struct ast_cli_args *a)
{
	int count = audiofork_each(a->argc > 2 ? a->argv[2] : NULL, print_details, (void *) a);

	ast_cli(a->fd, "%d AudioFork(s)\n", count);
	return CLI_SUCCESS;
}

/* Guards what print_load() has seen last. */
AST_MUTEX_DEFINE_STATIC(load_lock);

/*! \brief What the service thread takes of a core: since its start, and since the last look. */
static void print_load(int fd)
{
	static struct timeval looked_at;
	static double used_then_s;
	struct timeval now = ast_tvnow();
	double used_s = audiofork_service_cpu_s();

	if (used_s < 0) {
		return;
	}
	ast_cli(fd, "ServiceCpuMs: %.0f\n", used_s * 1e3);
	ast_mutex_lock(&load_lock);
	if (!ast_tvzero(looked_at) && ast_tvdiff_ms(now, looked_at) > 0) {
		ast_cli(fd, "ServiceLoad: %.2f %% of a core since the last look, %.1f s ago\n",
			(used_s - used_then_s) * 1e5 / ast_tvdiff_ms(now, looked_at),
			ast_tvdiff_ms(now, looked_at) / 1e3);
	}
	looked_at = now;
	used_then_s = used_s;
	ast_mutex_unlock(&load_lock);
}

static char *cli_stats(const struct ast_cli_args *a)
{
	char counters[AUDIOFORK_COUNTERS_SIZE];
	struct audiofork_totals totals;

	audiofork_totals(&totals);
	ast_cli(a->fd, "ForksNow: %llu\nForksEver: %llu\n%s", totals.forks_now, totals.forks,
		audiofork_counters(&totals.stats, "", "\n", counters, sizeof(counters)));
	print_load(a->fd);
	return CLI_SUCCESS;
}

/* ---- start and stop ---- */

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

/*! \brief `audiofork stop <id>`. \retval 0 there is no such fork */
static int stopped_by_id(const struct ast_cli_args *a)
{
	int beep;

	if (strcasecmp(a->argv[1], "stop") || a->argc != 3
		|| !audiofork_stop_id(a->argv[2], "CLI", &beep)) {
		return 0;
	}
	ast_cli(a->fd, "1 AudioFork(s) stopped\n");
	return 1;
}

static char *cli_change(const struct ast_cli_args *a)
{
	int start = !strcasecmp(a->argv[1], "start");
	struct ast_channel *chan;
	char *result;

	if (a->argc < (start ? 4 : 3) || a->argc > (start ? 5 : 4)) {
		return CLI_SHOWUSAGE;
	}
	if (stopped_by_id(a)) {
		return CLI_SUCCESS;
	}
	if (!(chan = ast_channel_get_by_name(a->argv[2]))) {
		ast_cli(a->fd, "There is no channel %s\n", a->argv[2]);
		return CLI_FAILURE;
	}
	result = start ? cli_start(a, chan) : cli_stop(a, chan);
	ast_channel_unref(chan);
	return result;
}

static char *cli_do(const struct ast_cli_args *a)
{
	if (!strcasecmp(a->argv[1], "list")) {
		return a->argc > 3 ? CLI_SHOWUSAGE : cli_list(a);
	}
	if (!strcasecmp(a->argv[1], "show")) {
		return a->argc > 3 ? CLI_SHOWUSAGE : cli_show(a);
	}
	if (!strcasecmp(a->argv[1], "stats")) {
		return a->argc > 2 ? CLI_SHOWUSAGE : cli_stats(a);
	}
	return cli_change(a);
}

/*! \brief Channels, where one is wanted. */
static char *complete(const struct ast_cli_args *a)
{
	if (a->pos != 2 || !strcasecmp(a->argv[1], "stats")) {
		return NULL;
	}
	return ast_complete_channels(a->line, a->word, a->pos, a->n, 2);
}

static char *cli_audiofork(struct ast_cli_entry *e, int cmd, struct ast_cli_args *a)
{
	switch (cmd) {
	case CLI_INIT:
		e->command = "audiofork {start|stop|list|show|stats}";
		e->usage =
			"Usage: audiofork start <channel> <wsurl> [<options>]\n"
			"       audiofork stop {<channel> [<id>]|<id>}\n"
			"       audiofork list [<channel>|<id>]\n"
			"       audiofork show [<channel>|<id>]\n"
			"       audiofork stats\n"
			"       Start, stop or show what is forked to WebSockets. Options as in\n"
			"       the application AudioFork. list: a line each, seconds captured and\n"
			"       lost. show: all that is known. stats: sums over all forks since the\n"
			"       module was loaded.\n";
		return NULL;
	case CLI_GENERATE:
		return complete(a);
	default:
		return a->argc < 2 ? CLI_SHOWUSAGE : cli_do(a);
	}
}

static struct ast_cli_entry cli_entries[] = {
	AST_CLI_DEFINE(cli_audiofork, "Fork a call's audio to a WebSocket"),
};

int audiofork_cli_init(void)
{
	return ast_cli_register_multiple(cli_entries, ARRAY_LEN(cli_entries));
}

void audiofork_cli_shutdown(void)
{
	ast_cli_unregister_multiple(cli_entries, ARRAY_LEN(cli_entries));
}
