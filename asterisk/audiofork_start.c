/*
 * asterisk-dialog: what AudioFork() is asked for.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief A request checked, turned into what the link needs, and started.
 */

#include "audiofork.h"

#include "asterisk/app.h"
#include "asterisk/beep.h"
#include "asterisk/file.h"
#include "asterisk/logger.h"
#include "asterisk/pbx.h"
#include "asterisk/strings.h"
#include "asterisk/utils.h"

#define REJECT(result, ...) ({ \
	snprintf(started->why, sizeof(started->why), __VA_ARGS__); \
	result; \
})

static int url_allowed(const struct audiofork_conf *conf, const struct fork_url *url)
{
	for (unsigned int i = 0; i < conf->allow_count; i++) {
		if (fork_url_allows(conf->allow[i], url)) {
			return 1;
		}
	}
	return !conf->allow_count;
}

static int readable(const char *file)
{
	return ast_strlen_zero(file) || !access(file, R_OK);
}

/*! \brief Options, configuration and URL into what the link needs. */
static void fill_params(struct fork_link_params *p, const struct audiofork_conf *conf,
	const struct fork_options *o)
{
	p->read = o->direction != FORK_WANT_WRITE;
	p->write = o->direction != FORK_WANT_READ;
	p->read_gain = o->read_gain;
	p->write_gain = o->write_gain;
	ast_copy_string(p->tls_ca, S_OR(o->tls_ca, conf->tls_ca_file), sizeof(p->tls_ca));
	ast_copy_string(p->tls_cert, o->tls_cert, sizeof(p->tls_cert));
	ast_copy_string(p->tls_key, S_OR(o->tls_key, o->tls_cert), sizeof(p->tls_key));
	p->ring_ms = conf->ring_ms;
	p->connect_timeout_ms = conf->connect_timeout_ms;
	p->stall_timeout_ms = conf->stall_timeout_ms;
	p->flush_ms = conf->flush_ms;
	/* R() is the first delay, r() the number of attempts; either asks for reconnection. */
	p->reconnect = conf->reconnect || o->reconnect_s >= 0;
	p->attempts = conf->reconnect_attempts;
	if (o->reconnect_attempts >= 0) {
		p->attempts = o->reconnect_attempts;
		p->reconnect = o->reconnect_attempts > 0;
	}
	p->delay_ms = o->reconnect_s > 0 ? (unsigned int) o->reconnect_s * 1000
		: conf->reconnect_delay_ms;
	p->delay_max_ms = MAX(p->delay_ms, conf->reconnect_max_delay_ms);
}

/*! \brief All that can be refused without looking at the channel. */
static enum audiofork_result check_request(const struct audiofork_conf *conf,
	const struct audiofork_request *request, struct fork_options *options,
	struct fork_link_params *params, struct audiofork_started *started)
{
	const char *why = "";
	char text[160];

	if (ast_strlen_zero(request->url)) {
		return REJECT(AUDIOFORK_BADARGS, "a WebSocket URL is wanted");
	}
	if (fork_url_parse(&params->url, request->url, &why)) {
		return REJECT(AUDIOFORK_BADARGS, "bad URL: %s", why);
	}
	ast_copy_string(started->url, params->url.shown, sizeof(started->url));
	if (fork_options_parse(options, request->options, conf->dmarenin_names, text, sizeof(text))) {
		return REJECT(AUDIOFORK_BADARGS, "%s", text);
	}
	if (options->tls && !params->url.tls) {
		return REJECT(AUDIOFORK_BADARGS, "option T wants a wss:// URL");
	}
	if (!readable(options->tls_cert) || !readable(options->tls_key) || !readable(options->tls_ca)) {
		return REJECT(AUDIOFORK_BADARGS, "option T: a file cannot be read");
	}
	if (!url_allowed(conf, &params->url)) {
		return REJECT(AUDIOFORK_REFUSED, "%s is not under any 'allow' of audiofork.conf",
			params->url.shown);
	}
	if (!ast_strlen_zero(request->post_command)) {
		if (!conf->post_command) {
			return REJECT(AUDIOFORK_REFUSED, "audiofork.conf does not have post_command = yes");
		}
		/* What a caller's name may have brought along must stay an argument. */
		if (strpbrk(request->post_command, "`$;|&<>\n\r")) {
			return REJECT(AUDIOFORK_REFUSED, "the post command holds one of ` $ ; | & < > ; "
				"put it into a script");
		}
	}
	fill_params(params, conf, options);
	return AUDIOFORK_STARTED;
}

/*! \brief A beep before the fork begins, as far as this thread may play one. */
static void beep_at_start(struct ast_channel *chan, const struct audiofork_request *request,
	const struct fork_options *options)
{
	if (options->beep_start && request->in_dialplan) {
		ast_stream_and_wait(chan, "beep", "");
	} else if (options->beep_start) {
		ast_log(LOG_WARNING, "AudioFork on %s: option p plays its beep only when started from "
			"the dialplan\n", ast_channel_name(chan));
	}
}

/*!
 * \brief Whether Asterisk's periodic beep would find this very channel.
 *
 * func_periodic_hook (16.28) looks for it by its name up to the second dash: for
 * PJSIP/my-trunk-0000002a that is PJSIP/my-trunk, and any call of that trunk would hear the beep.
 */
static int beep_finds(const char *channel)
{
	return strchr(channel, '-') == strrchr(channel, '-');
}

void audiofork_beep_start(struct ast_channel *chan, unsigned int seconds, const char *id,
	char *beep_id, size_t beep_id_size)
{
	char channel[AST_CHANNEL_NAME];

	ast_channel_lock(chan);
	ast_copy_string(channel, ast_channel_name(chan), sizeof(channel));
	ast_channel_unlock(chan);
	if (!beep_finds(channel)) {
		ast_log(LOG_WARNING, "AudioFork %s on %s: no periodic beep: Asterisk would play it in "
			"another call, for there is a dash in the peer's name\n", id, channel);
	} else if (ast_beep_start(chan, seconds, beep_id, beep_id_size)) {
		ast_log(LOG_WARNING, "AudioFork %s on %s: no periodic beep (is func_periodic_hook "
			"loaded?)\n", id, channel);
		beep_id[0] = '\0';
	}
}

static enum audiofork_result start_checked(struct ast_channel *chan,
	const struct audiofork_request *request, const struct fork_options *options,
	struct fork_link_params *params, struct audiofork_started *started)
{
	const char *why;

	beep_at_start(chan, request, options);
	why = audiofork_capture_start(chan, options, request->post_command, params, started->id);
	if (why) {
		return REJECT(AUDIOFORK_FAILED, "%s", why);
	}
	if (options->id_variable[0]) {
		pbx_builtin_setvar_helper(chan, options->id_variable, started->id);
	}
	return AUDIOFORK_STARTED;
}

enum audiofork_result audiofork_start(struct ast_channel *chan,
	const struct audiofork_request *request, struct audiofork_started *started)
{
	struct audiofork_conf *conf = audiofork_conf_get();
	struct fork_link_params *params = ast_calloc(1, sizeof(*params));
	struct fork_options options;
	enum audiofork_result result;

	memset(started, 0, sizeof(*started));
	if (!conf || !params) {
		result = REJECT(AUDIOFORK_FAILED, "out of memory, or the module is being unloaded");
	} else {
		result = check_request(conf, request, &options, params, started);
	}
	if (result == AUDIOFORK_STARTED) {
		result = start_checked(chan, request, &options, params, started);
	}
	ast_free(params);
	ao2_cleanup(conf);
	return result;
}

const char *audiofork_result_name(enum audiofork_result result)
{
	static const char *const names[] = {
		[AUDIOFORK_STARTED] = "STARTED", [AUDIOFORK_BADARGS] = "BADARGS",
		[AUDIOFORK_REFUSED] = "REFUSED", [AUDIOFORK_FAILED] = "FAILED",
	};

	return names[result];
}
