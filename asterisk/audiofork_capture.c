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
 */

#include "audiofork_fork.h"

#include "asterisk/beep.h"
#include "asterisk/format.h"
#include "asterisk/frame.h"
#include "asterisk/logger.h"
#include "asterisk/module.h"
#include "asterisk/utils.h"

#define HOOK_SOURCE "AudioFork"
#define UNLOAD_WAIT_MS 5000
#define RATE_MAX_HZ 48000

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
		audiofork_registry_remove(fork);
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

	audiofork_note_channel(fork, new_chan);
	ao2_lock(fork);
	fork->chan = new_chan;
	ao2_unlock(fork);
	fork_link_rename(fork->link, ast_channel_name(new_chan));
}

const struct ast_datastore_info audiofork_datastore = {
	.type = "audiofork",
	.destroy = datastore_destroy,
	.chan_fixup = datastore_masqueraded,
	.chan_breakdown = datastore_masqueraded,
};

void audiofork_remove_datastore(struct ast_channel *chan, const char *id)
{
	struct ast_datastore *datastore = ast_channel_datastore_find(chan, &audiofork_datastore, id);

	if (datastore && !ast_channel_datastore_remove(chan, datastore)) {
		ast_datastore_free(datastore);
	}
}

void audiofork_unwatch(struct audiofork *fork, struct ast_channel *chan)
{
	if (fork->watching) {
		fork->watching = 0;
		audiofork_keys_unwatch(chan, fork->link);
	}
}

void audiofork_detach(struct audiofork *fork, const char *reason)
{
	if (atomic_exchange(&fork->hooked, 0)) {
		fork_link_close(fork->link, reason);
		ao2_ref(fork, -1);
	}
}

/*!
 * \brief A frame, on the channel's thread, channel and hook locked; NULL: the hook's last call.
 *
 * Copies and leaves. Only a whisper changes the frame, in place, as Asterisk's own volume and whisper
 * hooks do: it is slin here, and the writer's own or a translation. 0 says that it was changed.
 */
static int on_frame(struct ast_audiohook *hook, struct ast_channel *chan, struct ast_frame *frame,
	enum ast_audiohook_direction direction)
{
	struct audiofork *fork = (struct audiofork *) hook; /* its first member */
	int wanted = direction == AST_AUDIOHOOK_DIRECTION_READ ? FORK_WANT_READ : FORK_WANT_WRITE;
	unsigned int rate;
	int changed = 0;

	if (!frame) {
		if (chan) {
			/* audiofork_detach() may give back the last reference but this one. */
			ao2_ref(fork, +1);
			audiofork_unwatch(fork, chan);
			audiofork_remove_datastore(chan, fork->id);
			audiofork_detach(fork, "stopped");
			ao2_ref(fork, -1);
		} else {
			/* Asterisk is hanging the channel up, and it is still whole. */
			fork_link_hangup(fork->link, ast_channel_hangupcause(fork->chan));
			audiofork_detach(fork, "hangup");
		}
		return -1;
	}
	if (frame->frametype != AST_FRAME_VOICE || !frame->data.ptr) {
		return -1;
	}
	rate = ast_format_get_sample_rate(frame->subclass.format);
	if (wanted == FORK_WANT_WRITE) {
		changed = fork_link_whisper(fork->link, frame->data.ptr, frame->samples, rate);
	}
	if ((fork->options.direction < FORK_WANT_BOTH
			&& fork->options.direction != (enum fork_wanted) wanted)
		|| (fork->options.bridged_only && !ast_channel_is_bridged(chan))) {
		return changed ? 0 : -1;
	}
	if (!fork_link_push(fork->link, wanted == FORK_WANT_READ ? FORK_READ : FORK_WRITE,
		frame->data.ptr, frame->samples, rate)) {
		/* The link has ended; Asterisk takes the hook off at the next frame. */
		ast_audiohook_update_status(hook, AST_AUDIOHOOK_STATUS_SHUTDOWN);
	}
	return changed ? 0 : -1;
}

/* ---- what happens to a fork's link, on the service thread ---- */

static void on_event(void *user, enum fork_event what, const char *reason, int64_t ms,
	const struct fork_stats *stats)
{
	struct audiofork_who who;

	audiofork_copy_who(user, &who);
	audiofork_event(&who, what, reason, ms, stats);
}

static void on_said(void *user, const char *text)
{
	struct audiofork *fork = user;
	struct audiofork_who who;

	audiofork_copy_who(fork, &who);
	audiofork_event_text(&who, &fork->texts, text);
}

static void on_ended(void *user, const char *reason, const struct fork_stats *stats)
{
	struct audiofork *fork = user;
	struct audiofork_who who;

	audiofork_copy_who(fork, &who);
	audiofork_event_stop(&who, reason, stats);
	audiofork_count_ended(fork, stats);
	if (fork->post_command) {
		audiofork_post_run(fork->post_command, fork->id, who.channel);
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
	struct ast_datastore *datastore = ast_datastore_alloc(&audiofork_datastore, fork->id);
	struct fork_facts *facts;

	if (!datastore) {
		return -1;
	}
	audiofork_note_channel(fork, chan);
	ast_copy_string(params->name, fork->channel, sizeof(params->name));
	ast_copy_string(params->id, fork->id, sizeof(params->id));
	params->rate_hz = channel_rate(chan);
	/* Before the link is there: its server may ask for a guard at once. */
	fork->watching = fork->options.json && !audiofork_keys_watch(chan);
	params->keys = fork->watching;
	if (audiofork_registry_add(fork)) {
		audiofork_unwatch(fork, chan);
		ast_datastore_free(datastore);
		return -1;
	}
	datastore->data = ao2_bump(fork);
	ao2_ref(fork, +1); /* the link's */
	params->facts = facts = audiofork_facts(chan, &fork->options);
	fork->link = fork_link_open(params, fork);
	ast_free(facts);
	if (!fork->link) {
		audiofork_unwatch(fork, chan);
		fork_let_go(fork);
		ast_datastore_free(datastore);
		return -1;
	}
	fork->chan = chan;
	ao2_ref(fork, +1); /* the hook's */
	atomic_store(&fork->hooked, 1);
	if (ast_test_flag(ast_channel_flags(chan), AST_FLAG_ZOMBIE) || ast_check_hangup(chan)
		|| ast_audiohook_attach(chan, &fork->hook)) {
		audiofork_unwatch(fork, chan);
		audiofork_detach(fork, "the channel was hung up");
		ast_datastore_free(datastore);
		return -1;
	}
	ast_channel_datastore_add(chan, datastore);
	if (fork->options.json && !fork->watching) {
		ast_log(LOG_WARNING, "AudioFork %s on %s: its server will not be told of keys, and cannot "
			"guard them\n", fork->id, ast_channel_name(chan));
	}
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

/* ---- load and unload ---- */

int audiofork_capture_init(void)
{
	static const struct fork_service_config config = {
		.log = on_log, .ended = on_ended, .event = on_event, .said = on_said,
	};

	atomic_store(&unloading, 0);
	if (audiofork_registry_init()) {
		return -1;
	}
	if (fork_service_start(&config)) {
		ast_log(LOG_ERROR, "The AudioFork service thread cannot be started\n");
		audiofork_registry_shutdown();
		return -1;
	}
	return 0;
}

int audiofork_capture_shutdown(void)
{
	atomic_store(&unloading, 1);
	/* A channel may be changing its name or hanging up: look again until all are gone. */
	for (int waited = 0; atomic_load(&alive); waited += 50) {
		if (waited >= UNLOAD_WAIT_MS) {
			break;
		}
		audiofork_stop_all("module unload");
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
	audiofork_registry_shutdown();
	return 0;
}
