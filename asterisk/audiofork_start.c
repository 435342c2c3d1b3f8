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

/*! \brief Headers and TLS: from option T, else the server's section, else [general]. */
static void fill_server(struct fork_link_params *p, const struct audiofork_conf *conf,
	const struct fork_options *o)
{
	static const struct audiofork_server none;
	const struct audiofork_server *server = audiofork_server_find(conf, &p->url);
	const char *cert, *key;

	if (!server) {
		server = &none;
	}
	cert = S_OR(o->tls_cert, server->tls_cert_file);
	key = o->tls_cert[0] ? o->tls_key : S_OR(o->tls_key, server->tls_key_file);
	p->headers = server->headers; /* lives as long as the configuration, which the caller holds */
	ast_copy_string(p->tls_ca, S_OR(o->tls_ca, S_OR(server->tls_ca_file, conf->tls_ca_file)),
		sizeof(p->tls_ca));
	ast_copy_string(p->tls_cert, cert, sizeof(p->tls_cert));
	ast_copy_string(p->tls_key, S_OR(key, cert), sizeof(p->tls_key));
	ast_copy_string(p->tls_name, server->tls_server_name, sizeof(p->tls_name));
}

/*! \brief Options, configuration and URL into what the link needs. */
static void fill_params(struct fork_link_params *p, const struct audiofork_conf *conf,
	const struct fork_options *o)
{
	fill_server(p, conf, o);
	p->read = o->direction != FORK_WANT_WRITE;
	p->write = o->direction != FORK_WANT_READ;
	p->stereo = o->direction == FORK_WANT_STEREO;
	p->rate_hz_out = o->rate_hz;
	p->message_ms = o->message_ms;
	p->json = o->json;
	p->read_gain = o->read_gain;
	p->write_gain = o->write_gain;
	p->ring_ms = conf->ring_ms;
	p->play_buffer_ms = conf->play_buffer_ms;
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

static void copy_variables(struct ast_channel *chan, const struct fork_options *options,
	struct fork_facts *facts)
{
	facts->variables = options->variables;
	for (unsigned int i = 0; i < options->variables; i++) {
		const char *value = pbx_builtin_getvar_helper(chan, options->variable[i]);

		ast_copy_string(facts->variable[i].name, options->variable[i],
			sizeof(facts->variable[i].name));
		ast_copy_string(facts->variable[i].value, S_OR(value, ""),
			sizeof(facts->variable[i].value));
	}
}

struct fork_facts *audiofork_facts(struct ast_channel *chan, const struct fork_options *options)
{
	const struct ast_party_id *caller = &ast_channel_caller(chan)->id;
	struct fork_facts *facts = options->json ? ast_calloc(1, sizeof(*facts)) : NULL;

	if (!facts) {
		return NULL;
	}
	ast_copy_string(facts->uniqueid, ast_channel_uniqueid(chan), sizeof(facts->uniqueid));
	ast_copy_string(facts->linkedid, ast_channel_linkedid(chan), sizeof(facts->linkedid));
	if (caller->number.valid) {
		ast_copy_string(facts->caller_number, S_OR(caller->number.str, ""),
			sizeof(facts->caller_number));
	}
	if (caller->name.valid) {
		ast_copy_string(facts->caller_name, S_OR(caller->name.str, ""),
			sizeof(facts->caller_name));
	}
	ast_copy_string(facts->called, S_OR(ast_channel_dialed(chan)->number.str,
		ast_channel_exten(chan)), sizeof(facts->called));
	copy_variables(chan, options, facts);
	return facts;
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
