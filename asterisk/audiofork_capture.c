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
#include "asterisk/format.h"
#include "asterisk/frame.h"
#include "asterisk/logger.h"
#include "asterisk/module.h"
#include "asterisk/utils.h"

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

/*! \brief The present name of the fork's channel; any thread. */
static void copy_channel(struct audiofork *fork, char channel[AST_CHANNEL_NAME])
{
	ao2_lock(fork);
	ast_copy_string(channel, fork->channel, AST_CHANNEL_NAME);
	ao2_unlock(fork);
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

static void on_ended(void *user, const char *reason, const struct fork_stats *stats)
{
	struct audiofork *fork = user;

	if (fork->post_command) {
		char channel[AST_CHANNEL_NAME];

		copy_channel(fork, channel);
		audiofork_post_run(fork->post_command, fork->id, channel);
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

static struct audiofork *fork_create(const struct fork_options *options, const char *post_command,
	const struct fork_link_params *params)
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
	if (!ast_strlen_zero(post_command)) {
		fork->post_command = ast_strdup(post_command);
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

const char *audiofork_capture_start(struct ast_channel *chan, const struct fork_options *options,
	const char *post_command, struct fork_link_params *params, char id[AST_UUID_STR_LEN])
{
	struct audiofork *fork = fork_create(options, post_command, params);
	int res;

	if (!fork) {
		return "out of memory";
	}
	ast_channel_lock(chan);
	res = atomic_load(&unloading) ? -1 : fork_attach(fork, chan, params);
	ast_channel_unlock(chan);
	if (res) {
		ao2_ref(fork, -1);
		return "the channel is being hung up, or the module unloaded";
	}
	if (options->beep_s) {
		audiofork_beep_start(chan, options->beep_s, fork->id, fork->beep_id,
			sizeof(fork->beep_id));
	}
	ast_copy_string(id, fork->id, AST_UUID_STR_LEN);
	ao2_ref(fork, -1);
	return NULL;
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

		copy_channel(fork, line.channel);
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

		copy_channel(fork, channel);
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
