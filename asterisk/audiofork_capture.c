/*
 * asterisk-dialog: forks on channels.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief The fork: an audiohook that copies frames into a link, and what ends it.
 *
 * A fork's references
 * - the audiohook's, given back by detach_hook();
 * - the datastore's, given back when it is destroyed (stop, end of the channel);
 * - the link's, given back by on_ended();
 * - the registry's, given back when both the channel (datastore) and the link are done.
 *
 * Order of locks: channel, audiohook, fork. The service thread takes no channel's lock.
 */

#include "audiofork.h"

#include <stdatomic.h>

#include "asterisk/audiohook.h"
#include "asterisk/beep.h"
#include "asterisk/datastore.h"
#include "asterisk/file.h"
#include "asterisk/format.h"
#include "asterisk/frame.h"
#include "asterisk/logger.h"
#include "asterisk/module.h"
#include "asterisk/pbx.h"
#include "asterisk/strings.h"
#include "asterisk/utils.h"
#include "asterisk/app.h"

#define HOOK_SOURCE "AudioFork"
#define UNLOAD_WAIT_MS 5000
#define RATE_MAX_HZ 48000

struct audiofork {
	struct ast_audiohook hook;
	struct fork_link *link;
	struct fork_options options;
	char id[AST_UUID_STR_LEN];
	char url[200];
	char beep_id[64];
	char channel[AST_CHANNEL_NAME]; /*!< guarded by the fork's lock */
	char *post_command;
	atomic_bool hooked;             /*!< the audiohook holds its reference */
	atomic_int unfinished;          /*!< channel and link: 2, 1, 0 */
};

static struct ao2_container *registry;
static atomic_int alive;
static atomic_bool unloading;

static void fork_destroy(void *obj)
{
	struct audiofork *fork = obj;

	ast_audiohook_destroy(&fork->hook);
	fork_link_unref(fork->link);
	ast_free(fork->post_command);
	atomic_fetch_sub(&alive, 1);
}

/*! \brief The channel or the link is done with the fork; gives a reference back. */
static void fork_let_go(struct audiofork *fork)
{
	if (atomic_fetch_sub(&fork->unfinished, 1) == 1) {
		ao2_unlink(registry, fork);
	}
	ao2_ref(fork, -1);
}

static void datastore_destroy(void *data)
{
	fork_let_go(data);
}

/*!
 * \brief The fork lives on new_chan, which has got another name.
 *
 * As chan_fixup the fork has moved there from old_chan, as chan_breakdown it was there before.
 * Asterisk moves the audiohook itself.
 */
static void datastore_masqueraded(void *data, struct ast_channel *old_chan,
	struct ast_channel *new_chan)
{
	struct audiofork *fork = data;

	ao2_lock(fork);
	ast_copy_string(fork->channel, ast_channel_name(new_chan), sizeof(fork->channel));
	ao2_unlock(fork);
	fork_link_rename(fork->link, ast_channel_name(new_chan));
}

static const struct ast_datastore_info datastore_info = {
	.type = "audiofork",
	.destroy = datastore_destroy,
	.chan_fixup = datastore_masqueraded,
	.chan_breakdown = datastore_masqueraded,
};

/*! \brief Take the datastore of a fork off the channel, which is locked. */
static void remove_datastore(struct ast_channel *chan, const char *id)
{
	struct ast_datastore *datastore = ast_channel_datastore_find(chan, &datastore_info, id);

	if (datastore && !ast_channel_datastore_remove(chan, datastore)) {
		ast_datastore_free(datastore);
	}
}

/*! \brief The hook is on no list any more: no further frame will come. */
static void detach_hook(struct audiofork *fork, const char *reason)
{
	if (atomic_exchange(&fork->hooked, 0)) {
		fork_link_close(fork->link, reason);
		ao2_ref(fork, -1);
	}
}

/*!
 * \brief A frame, on the channel's thread, channel and hook locked; NULL: the hook's last call.
 *
 * Copies and leaves. The frame is never touched: -1 says so.
 */
static int on_frame(struct ast_audiohook *hook, struct ast_channel *chan, struct ast_frame *frame,
	enum ast_audiohook_direction direction)
{
	struct audiofork *fork = (struct audiofork *) hook; /* its first member */
	int wanted = direction == AST_AUDIOHOOK_DIRECTION_READ ? FORK_WANT_READ : FORK_WANT_WRITE;

	if (!frame) {
		if (chan) {
			/* detach_hook() may give back the last reference but this one. */
			ao2_ref(fork, +1);
			remove_datastore(chan, fork->id);
			detach_hook(fork, "stopped");
			ao2_ref(fork, -1);
		} else {
			detach_hook(fork, "hangup");
		}
		return -1;
	}
	if (frame->frametype != AST_FRAME_VOICE || !frame->data.ptr
		|| (fork->options.direction != FORK_WANT_BOTH
			&& fork->options.direction != (enum fork_wanted) wanted)
		|| (fork->options.bridged_only && !ast_channel_is_bridged(chan))) {
		return -1;
	}
	if (!fork_link_push(fork->link, wanted == FORK_WANT_READ ? FORK_READ : FORK_WRITE,
		frame->data.ptr, frame->samples, ast_format_get_sample_rate(frame->subclass.format))) {
		/* The link has ended; Asterisk takes the hook off at the next frame. */
		ast_audiohook_update_status(hook, AST_AUDIOHOOK_STATUS_SHUTDOWN);
	}
	return -1;
}

/* ---- the end of a fork, on the service thread ---- */

/*! \brief ` NAME='text'`, quoted for a shell. */
static void append_quoted(struct ast_str **line, const char *name, const char *text)
{
	ast_str_append(line, 0, "%s='", name);
	for (; *text; text++) {
		ast_str_append(line, 0, *text == '\'' ? "'\\''" : "%c", *text);
	}
	ast_str_append(line, 0, "' ");
}

static void *post_command_main(void *data)
{
	char *line = data;

	ast_safe_system(line);
	ast_free(line);
	ast_module_unref(AST_MODULE_SELF);
	return NULL;
}

/*! \brief Run the post command on a thread of its own; the module cannot be unloaded meanwhile. */
static void run_post_command(struct audiofork *fork)
{
	struct ast_str *line = ast_str_create(256);
	char channel[AST_CHANNEL_NAME];
	pthread_t thread;
	char *text;

	if (!line) {
		return;
	}
	ao2_lock(fork);
	ast_copy_string(channel, fork->channel, sizeof(channel));
	ao2_unlock(fork);
	append_quoted(&line, "AUDIOFORK_ID", fork->id);
	append_quoted(&line, "AUDIOFORK_CHANNEL", channel);
	ast_str_append(&line, 0, "%s", fork->post_command);
	text = ast_strdup(ast_str_buffer(line));
	ast_free(line);
	ast_module_ref(AST_MODULE_SELF);
	if (!text || ast_pthread_create_detached_background(&thread, NULL, post_command_main, text)) {
		ast_log(LOG_WARNING, "AudioFork %s: cannot start a thread for the post command\n",
			fork->id);
		ast_free(text);
		ast_module_unref(AST_MODULE_SELF);
	}
}

static void on_ended(void *user, const char *reason, const struct fork_stats *stats)
{
	struct audiofork *fork = user;

	if (fork->post_command) {
		run_post_command(fork);
	}
	fork_let_go(fork);
}

static void on_log(enum fork_log_level level, const char *text)
{
	switch (level) {
	case FORK_LOG_DEBUG:
		ast_debug(1, "%s\n", text);
		break;
	case FORK_LOG_VERBOSE:
		ast_verb(3, "%s\n", text);
		break;
	case FORK_LOG_NOTICE:
		ast_log(LOG_NOTICE, "%s\n", text);
		break;
	default:
		ast_log(LOG_WARNING, "%s\n", text);
		break;
	}
}

/* ---- start ---- */

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

static struct audiofork *fork_create(const struct fork_options *options,
	const struct audiofork_request *request, const struct fork_link_params *params)
{
	struct audiofork *fork = ao2_alloc(sizeof(*fork), fork_destroy);

	if (!fork) {
		return NULL;
	}
	atomic_fetch_add(&alive, 1);
	fork->options = *options;
	atomic_init(&fork->unfinished, 2);
	ast_uuid_generate_str(fork->id, sizeof(fork->id));
	ast_copy_string(fork->url, params->url.shown, sizeof(fork->url));
	if (!ast_strlen_zero(request->post_command)) {
		fork->post_command = ast_strdup(request->post_command);
	}
	ast_audiohook_init(&fork->hook, AST_AUDIOHOOK_TYPE_MANIPULATE, HOOK_SOURCE,
		AST_AUDIOHOOK_MANIPULATE_ALL_RATES);
	fork->hook.manipulate_callback = on_frame;
	return fork;
}

/*! \brief The highest rate among what is read and written now: the ring is sized for it. */
static unsigned int channel_rate(struct ast_channel *chan)
{
	unsigned int rate = MAX(ast_format_get_sample_rate(ast_channel_rawreadformat(chan)),
		ast_format_get_sample_rate(ast_channel_rawwriteformat(chan)));

	return MIN(MAX(rate, FORK_MESSAGE_BYTES / 2 * 50), RATE_MAX_HZ);
}

/*!
 * \brief Put the fork on the channel. The channel is locked: no frame comes meanwhile.
 * \retval -1 not attached, all references but the caller's are given back
 */
static int fork_attach(struct audiofork *fork, struct ast_channel *chan,
	struct fork_link_params *params)
{
	struct ast_datastore *datastore = ast_datastore_alloc(&datastore_info, fork->id);

	if (!datastore) {
		return -1;
	}
	ast_copy_string(fork->channel, ast_channel_name(chan), sizeof(fork->channel));
	ast_copy_string(params->name, fork->channel, sizeof(params->name));
	ast_copy_string(params->id, fork->id, sizeof(params->id));
	params->rate_hz = channel_rate(chan);
	if (!ao2_link(registry, fork)) {
		ast_datastore_free(datastore);
		return -1;
	}
	datastore->data = ao2_bump(fork);
	ao2_ref(fork, +1); /* the link's */
	if (!(fork->link = fork_link_open(params, fork))) {
		fork_let_go(fork);
		ast_datastore_free(datastore);
		return -1;
	}
	ao2_ref(fork, +1); /* the hook's */
	atomic_store(&fork->hooked, 1);
	if (ast_test_flag(ast_channel_flags(chan), AST_FLAG_ZOMBIE) || ast_check_hangup(chan)
		|| ast_audiohook_attach(chan, &fork->hook)) {
		detach_hook(fork, "the channel was hung up");
		ast_datastore_free(datastore);
		return -1;
	}
	ast_channel_datastore_add(chan, datastore);
	return 0;
}

/*! \brief Beeps, each as far as this thread may play them. */
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

static void beep_periodically(struct ast_channel *chan, struct audiofork *fork)
{
	if (fork->options.beep_s && ast_beep_start(chan, fork->options.beep_s, fork->beep_id,
		sizeof(fork->beep_id))) {
		ast_log(LOG_WARNING, "AudioFork %s on %s: no periodic beep (is func_periodic_hook "
			"loaded?)\n", fork->id, ast_channel_name(chan));
		fork->beep_id[0] = '\0';
	}
}

static enum audiofork_result start_checked(struct ast_channel *chan,
	const struct audiofork_request *request, const struct fork_options *options,
	struct fork_link_params *params, struct audiofork_started *started)
{
	struct audiofork *fork;
	int res;

	beep_at_start(chan, request, options);
	if (!(fork = fork_create(options, request, params))) {
		return REJECT(AUDIOFORK_FAILED, "out of memory");
	}
	ast_channel_lock(chan);
	res = atomic_load(&unloading) ? -1 : fork_attach(fork, chan, params);
	ast_channel_unlock(chan);
	if (res) {
		ao2_ref(fork, -1);
		return REJECT(AUDIOFORK_FAILED, "the channel is being hung up, or the module unloaded");
	}
	beep_periodically(chan, fork);
	ast_copy_string(started->id, fork->id, sizeof(started->id));
	if (options->id_variable[0]) {
		pbx_builtin_setvar_helper(chan, options->id_variable, fork->id);
	}
	ao2_ref(fork, -1);
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

/* ---- stop, mute, list ---- */

/*! \brief Stop one fork of the channel. \return 0 there was none */
static int stop_one(struct ast_channel *chan, const char *id, const char *reason, int *beep)
{
	struct ast_datastore *datastore;
	struct audiofork *fork;

	ast_channel_lock(chan);
	datastore = ast_channel_datastore_find(chan, &datastore_info, S_OR(id, NULL));
	if (!datastore) {
		ast_channel_unlock(chan);
		return 0;
	}
	fork = ao2_bump(datastore->data);
	if (atomic_load(&fork->hooked)) {
		ast_audiohook_remove(chan, &fork->hook);
	}
	detach_hook(fork, reason);
	remove_datastore(chan, fork->id);
	ast_channel_unlock(chan);
	if (fork->beep_id[0]) {
		ast_beep_stop(chan, fork->beep_id);
	}
	*beep |= fork->options.beep_stop;
	ao2_ref(fork, -1);
	return 1;
}

int audiofork_stop(struct ast_channel *chan, const char *id, const char *reason, int *beep)
{
	int count = 0;

	*beep = 0;
	while (stop_one(chan, id, reason, beep)) {
		count++;
	}
	return count;
}

int audiofork_mute(struct ast_channel *chan, const char *id, int read, int write, int on)
{
	struct ast_datastore *datastore;
	int count = 0;

	ast_channel_lock(chan);
	AST_LIST_TRAVERSE(ast_channel_datastores(chan), datastore, entry) {
		struct audiofork *fork = datastore->data;

		if (datastore->info != &datastore_info
			|| (!ast_strlen_zero(id) && strcmp(id, fork->id))) {
			continue;
		}
		if (read) {
			fork_link_mute(fork->link, FORK_READ, on);
		}
		if (write) {
			fork_link_mute(fork->link, FORK_WRITE, on);
		}
		count++;
	}
	ast_channel_unlock(chan);
	return count;
}

int audiofork_each(const char *channel, void (*each)(const struct audiofork_line *line, void *user),
	void *user)
{
	static const char *const directions[] = {
		[FORK_WANT_READ] = "in", [FORK_WANT_WRITE] = "out", [FORK_WANT_BOTH] = "both",
	};
	struct ao2_iterator i = ao2_iterator_init(registry, 0);
	struct audiofork *fork;
	int count = 0;

	for (; (fork = ao2_iterator_next(&i)); ao2_ref(fork, -1)) {
		struct audiofork_line line = { .direction = directions[fork->options.direction] };

		ao2_lock(fork);
		ast_copy_string(line.channel, fork->channel, sizeof(line.channel));
		ao2_unlock(fork);
		if (!fork->link || (!ast_strlen_zero(channel) && strcasecmp(channel, line.channel))) {
			continue;
		}
		ast_copy_string(line.id, fork->id, sizeof(line.id));
		ast_copy_string(line.url, fork->url, sizeof(line.url));
		fork_link_stats(fork->link, &line.stats);
		each(&line, user);
		count++;
	}
	ao2_iterator_destroy(&i);
	return count;
}

/* ---- load and unload ---- */

int audiofork_capture_init(void)
{
	static const struct fork_service_config config = { .log = on_log, .ended = on_ended };

	atomic_store(&unloading, 0);
	registry = ao2_container_alloc_list(AO2_ALLOC_OPT_LOCK_MUTEX, 0, NULL, NULL);
	if (!registry) {
		return -1;
	}
	if (fork_service_start(&config)) {
		ast_log(LOG_ERROR, "The AudioFork service thread cannot be started\n");
		ao2_cleanup(registry);
		registry = NULL;
		return -1;
	}
	return 0;
}

static void detach_all(void)
{
	struct ao2_iterator i = ao2_iterator_init(registry, 0);
	struct audiofork *fork;

	for (; (fork = ao2_iterator_next(&i)); ao2_ref(fork, -1)) {
		char channel[AST_CHANNEL_NAME];
		struct ast_channel *chan;
		int beep;

		ao2_lock(fork);
		ast_copy_string(channel, fork->channel, sizeof(channel));
		ao2_unlock(fork);
		if ((chan = ast_channel_get_by_name(channel))) {
			audiofork_stop(chan, fork->id, "module unload", &beep);
			ast_channel_unref(chan);
		}
	}
	ao2_iterator_destroy(&i);
}

int audiofork_capture_shutdown(void)
{
	atomic_store(&unloading, 1);
	/* A channel may be changing its name or hanging up: look again until all are gone. */
	for (int waited = 0; atomic_load(&alive); waited += 50) {
		if (waited >= UNLOAD_WAIT_MS) {
			break;
		}
		detach_all();
		usleep(50000);
	}
	if (atomic_load(&alive) || fork_service_stop(UNLOAD_WAIT_MS)) {
		ast_log(LOG_WARNING, "AudioFork cannot be unloaded yet: %d fork(s) still belong to "
			"channels; try again later\n", atomic_load(&alive));
		atomic_store(&unloading, 0);
		return -1;
	}
	/* Whoever gave back the last reference has a return or two left in our code. */
	usleep(20000);
	ao2_cleanup(registry);
	registry = NULL;
	return 0;
}
