/*
 * asterisk-dialog: keys of a channel, seen and blocked.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief DTMF_GUARD(): a framehook that lets the keys of a channel through, or does not.
 *
 * The framehook sees a key after the channel driver has made a frame of it (RFC 4733, SIP INFO,
 * tones in the voice: all the same then) and before Asterisk's core does anything with it: the
 * AMI events DTMFBegin and DTMFEnd, audiohooks, applications and bridges come later.
 *
 * No key is judged twice. The core puts a key back into the channel's queue when it comes too
 * soon after another; it does so in the channel's own DTMF frame, whose `src` we have set to
 * `seen`. Keys that are released carry the same mark.
 *
 * Kept keys are released one at a time, when the core can take one. All at once in the channel's
 * queue, they would keep it from reading the wire until the last is played back: no voice for
 * seconds, and a thread that spins.
 */

#include "audiofork_guard.h"

#include <stdatomic.h>
#include <time.h>

#include "asterisk/datastore.h"
#include "asterisk/frame.h"
#include "asterisk/framehook.h"
#include "asterisk/logger.h"
#include "asterisk/module.h"
#include "asterisk/utils.h"

#define UNLOAD_WAIT_MS 5000
/*!
 * Pause before a released key. More than the core's 45 ms (AST_MIN_DTMF_GAP), for the sake of
 * the next hop; less than the 90 ms for which its timer moves a channel without traffic.
 */
#define RELEASE_GAP_MS 70

static const char seen[] = "DTMF_GUARD";
static struct ao2_container *registry;
static atomic_int alive;
static atomic_bool unloading;

uint64_t audiofork_guard_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}

/* ---- the framehook, on the channel's thread or that of its bridge; the channel is locked ---- */

static int is_seen(const struct ast_frame *frame)
{
	return frame->src && !strcmp(frame->src, seen);
}

static int is_key(const struct ast_frame *frame)
{
	return (frame->frametype == AST_FRAME_DTMF_BEGIN || frame->frametype == AST_FRAME_DTMF_END)
		&& fork_key_known(frame->subclass.integer);
}

static void tell(struct ast_channel *chan, const struct fork_key_end *ended)
{
	if (ended->key.digit) {
		audiofork_digit(chan, ended->key.digit, ended->key.duration_ms, ended->verdict);
	}
}

/*!
 * \brief Nobody sees the frame of this key.
 *
 * Should it be a beginning, and the key before it, which its reader saw begin, have lost its
 * end, the frame becomes that end: the core drops all voice until it has one.
 */
static void hide(struct ast_frame *frame, const struct fork_key_end *ended)
{
	if (frame->frametype == AST_FRAME_DTMF_BEGIN && ended->key.digit
		&& ended->verdict == FORK_KEY_PASSED) {
		frame->frametype = AST_FRAME_DTMF_END;
		frame->subclass.integer = ended->key.digit;
		frame->len = ended->key.duration_ms;
	} else {
		frame->frametype = AST_FRAME_NULL;
		frame->subclass.integer = 0;
	}
}

/*! \brief A key from the wire. The frame stays where it is: others may be linked to it. */
static void judge(struct keys_guard *guard, struct ast_channel *chan, struct ast_frame *frame)
{
	char digit = (char) frame->subclass.integer;
	struct fork_key_end ended;
	int pass;

	ast_channel_dtmff(chan)->src = seen;
	if (is_seen(frame)) {
		return;
	}
	if (frame->frametype == AST_FRAME_DTMF_BEGIN) {
		pass = fork_keys_begin(&guard->keys, digit, audiofork_guard_now_ms(), &ended);
	} else {
		pass = fork_keys_end(&guard->keys, digit, MAX(frame->len, 0), audiofork_guard_now_ms(),
			ast_test_flag(ast_channel_flags(chan), AST_FLAG_IN_DTMF), &ended);
	}
	if (!pass) {
		hide(frame, &ended);
	}
	tell(chan, &ended);
}

/*! \brief Whether the core would take a digit now, and none that we have judged is in its queue. */
static int can_take_key(struct ast_channel *chan)
{
	struct timeval last = *ast_channel_dtmf_tv(chan);
	struct ast_frame *frame;

	if (ast_test_flag(ast_channel_flags(chan),
		AST_FLAG_DEFER_DTMF | AST_FLAG_EMULATE_DTMF | AST_FLAG_IN_DTMF)
		|| (!ast_tvzero(last) && ast_tvdiff_ms(ast_tvnow(), last) < RELEASE_GAP_MS)) {
		return 0;
	}
	AST_LIST_TRAVERSE(ast_channel_readq(chan), frame, frame_list) {
		if (is_key(frame) && is_seen(frame)) {
			return 0;
		}
	}
	return 1;
}

/*!
 * \brief Let a kept key go, if one is due and can be taken.
 *
 * Before all that is in the queue: keys in it have come later. Without a beginning of its own:
 * the core plays it back, with its length, for readers that want to see it begin.
 */
void audiofork_guard_release(struct keys_guard *guard, struct ast_channel *chan)
{
	struct fork_key_end ended = { .verdict = FORK_KEY_RELEASED };
	struct ast_frame frame = { .frametype = AST_FRAME_DTMF_END, .src = seen };

	if (!fork_keys_due(&guard->keys) || !can_take_key(chan)) {
		return;
	}
	ended.key = fork_keys_next(&guard->keys);
	frame.subclass.integer = ended.key.digit;
	frame.len = ended.key.duration_ms;
	if (ast_queue_frame_head(chan, &frame)) {
		ast_log(LOG_WARNING, "DTMF_GUARD on %s: key %c is lost: no memory\n",
			ast_channel_name(chan), ended.key.digit);
		return;
	}
	tell(chan, &ended);
}

/*! \brief Take the framehook off when it has nothing left to do. */
void audiofork_guard_rest(struct keys_guard *guard, struct ast_channel *chan)
{
	if (guard->hook >= 0 && !guard->watchers && fork_keys_idle(&guard->keys)) {
		ast_framehook_detach(chan, guard->hook);
		guard->hook = -1;
	}
}

static struct ast_frame *on_event(struct ast_channel *chan, struct ast_frame *frame,
	enum ast_framehook_event event, void *data)
{
	struct keys_guard *guard = data;

	if (event == AST_FRAMEHOOK_EVENT_DETACHED) {
		if (ast_channel_dtmff(chan)->src == seen) {
			ast_channel_dtmff(chan)->src = NULL;
		}
		return frame;
	}
	if (event == AST_FRAMEHOOK_EVENT_ATTACHED || !frame) {
		return frame;
	}
	audiofork_guard_catch_up(guard, chan);
	if (event == AST_FRAMEHOOK_EVENT_READ && is_key(frame)) {
		judge(guard, chan, frame);
		audiofork_guard_rest(guard, chan);
	} else if (guard->keys.count) {
		/* Not together with a key: the core has yet to note that one. */
		audiofork_guard_release(guard, chan);
		audiofork_guard_rest(guard, chan);
	}
	return frame;
}

/*! \brief Voice counts too: else native RTP bridges would carry the keys past Asterisk. */
static int consumes(void *data, enum ast_frame_type type)
{
	return type == AST_FRAME_DTMF_BEGIN || type == AST_FRAME_DTMF_END || type == AST_FRAME_VOICE;
}

static void hook_destroy(void *data)
{
	ao2_ref(data, -1);
}

/* ---- masquerades: both channels are locked ---- */

static const struct ast_datastore_info datastore_info;

struct keys_guard *audiofork_guard_find(struct ast_channel *chan)
{
	struct ast_datastore *datastore = ast_channel_datastore_find(chan, &datastore_info, NULL);

	return datastore ? datastore->data : NULL;
}

/*! \brief The framehook has come to new_chan; where a guard is at work already, that one stays. */
static void hook_moved(void *data, int hook, struct ast_channel *old_chan,
	struct ast_channel *new_chan)
{
	struct keys_guard *guard = data;

	if (guard->hook < 0) {
		ast_framehook_detach(new_chan, hook);
	} else {
		guard->hook = hook;
	}
}

static void rename_guard(struct keys_guard *guard, struct ast_channel *chan)
{
	ao2_lock(guard);
	ast_copy_string(guard->channel, ast_channel_name(chan), sizeof(guard->channel));
	ao2_unlock(guard);
}

/*!
 * \brief The guard comes from old_chan to new_chan, its framehook will follow.
 *
 * The forks come along too. Should new_chan have a guard, that one stays, for its dialplan has
 * set it: it takes over the watching (and all the rest, if it has nothing to do itself), and the
 * other one retires.
 */
static void datastore_moved(void *data, struct ast_channel *old_chan, struct ast_channel *new_chan)
{
	struct keys_guard *guard = data;
	struct keys_guard *host = audiofork_guard_find(new_chan);

	rename_guard(guard, new_chan);
	if (host && host != guard) {
		host->watchers += guard->watchers;
		if (fork_keys_idle(&host->keys)) {
			host->keys = guard->keys;
			host->owner = guard->owner;
			host->wish = guard->wish;
		} else {
			audiofork_guard_disown(guard, old_chan); /* its forks are still there */
		}
		if (guard->hook >= 0) {
			audiofork_guard_attach(host, new_chan);
		}
		memset(&guard->keys, 0, sizeof(guard->keys));
		guard->watchers = 0;
		guard->owner = NULL;
		guard->hook = -1;
	}
}

static void datastore_stayed(void *data, struct ast_channel *old_chan,
	struct ast_channel *new_chan)
{
	rename_guard(data, new_chan);
}

static void datastore_destroy(void *data)
{
	if (registry) {
		ao2_unlink(registry, data);
	}
	ao2_ref(data, -1);
}

static const struct ast_datastore_info datastore_info = {
	.type = "DTMF_GUARD",
	.destroy = datastore_destroy,
	.chan_fixup = datastore_moved,
	.chan_breakdown = datastore_stayed,
};

/* ---- a guard comes and goes; the channel is locked ---- */

/*! \brief See to it that the guard sees the keys. \retval -1 it cannot be */
int audiofork_guard_attach(struct keys_guard *guard, struct ast_channel *chan)
{
	struct ast_framehook_interface interface = {
		.version = AST_FRAMEHOOK_INTERFACE_VERSION,
		.event_cb = on_event,
		.destroy_cb = hook_destroy,
		.consume_cb = consumes,
		.chan_fixup_cb = hook_moved,
		.data = guard,
	};

	if (guard->hook >= 0) {
		return 0;
	}
	if (atomic_load(&unloading) || ast_test_flag(ast_channel_flags(chan), AST_FLAG_ZOMBIE)
		|| ast_check_hangup(chan)) {
		return -1;
	}
	ao2_ref(guard, +1);
	guard->hook = ast_framehook_attach(chan, &interface);
	if (guard->hook < 0) {
		ao2_ref(guard, -1);
		return -1;
	}
	return 0;
}

static void guard_destroy(void *obj)
{
	atomic_fetch_sub(&alive, 1);
}

/*! \return the channel's guard, a new one if need be; no reference: the channel is locked */
struct keys_guard *audiofork_guard_of(struct ast_channel *chan)
{
	struct keys_guard *guard = audiofork_guard_find(chan);
	struct ast_datastore *datastore;

	if (guard || atomic_load(&unloading)) {
		return guard;
	}
	if (!(guard = ao2_alloc(sizeof(*guard), guard_destroy))) {
		return NULL;
	}
	atomic_fetch_add(&alive, 1);
	guard->hook = -1;
	rename_guard(guard, chan);
	datastore = ast_datastore_alloc(&datastore_info, NULL);
	if (!datastore || !ao2_link(registry, guard)) {
		if (datastore) {
			ast_datastore_free(datastore);
		}
		ao2_ref(guard, -1);
		return NULL;
	}
	datastore->data = guard;
	ast_channel_datastore_add(chan, datastore);
	return guard;
}

int audiofork_keys_watch(struct ast_channel *chan)
{
	struct keys_guard *guard;
	int res = -1;

	ast_channel_lock(chan);
	guard = audiofork_guard_of(chan);
	if (guard && !audiofork_guard_attach(guard, chan)) {
		guard->watchers++;
		res = 0;
	}
	ast_channel_unlock(chan);
	return res;
}

void audiofork_keys_unwatch(struct ast_channel *chan, const struct fork_link *link)
{
	struct keys_guard *guard;

	ast_channel_lock(chan);
	guard = audiofork_guard_find(chan);
	if (guard && guard->watchers) {
		audiofork_guard_leave(guard, chan, link);
		guard->watchers--;
		audiofork_guard_rest(guard, chan);
	}
	ast_channel_unlock(chan);
}

/* ---- load and unload ---- */

int audiofork_keys_init(void)
{
	registry = ao2_container_alloc_list(AO2_ALLOC_OPT_LOCK_MUTEX, 0, NULL, NULL);
	atomic_store(&unloading, 0);
	return registry ? audiofork_guard_register() : -1;
}

/*! \brief Take guards off a channel; its keys are open then. */
static void strip(struct ast_channel *chan)
{
	struct ast_datastore *datastore;

	ast_channel_lock(chan);
	while ((datastore = ast_channel_datastore_find(chan, &datastore_info, NULL))) {
		struct keys_guard *guard = datastore->data;

		if (guard->hook >= 0) {
			ast_framehook_detach(chan, guard->hook);
			/* The core frees it at the channel's next frame: here is one. */
			ast_queue_frame(chan, &ast_null_frame);
		}
		ast_channel_datastore_remove(chan, datastore);
		ast_datastore_free(datastore);
	}
	ast_channel_unlock(chan);
}

static void strip_all(void)
{
	struct ao2_iterator i = ao2_iterator_init(registry, 0);
	struct keys_guard *guard;

	for (; (guard = ao2_iterator_next(&i)); ao2_ref(guard, -1)) {
		char channel[AST_CHANNEL_NAME];
		struct ast_channel *chan;

		ao2_lock(guard);
		ast_copy_string(channel, guard->channel, sizeof(channel));
		ao2_unlock(guard);
		if ((chan = ast_channel_get_by_name(channel))) {
			strip(chan);
			ast_channel_unref(chan);
		}
	}
	ao2_iterator_destroy(&i);
}

int audiofork_keys_shutdown(void)
{
	if (!registry) {
		return 0;
	}
	atomic_store(&unloading, 1);
	/* A channel may be changing its name or hanging up: look again until all are gone. */
	for (int waited = 0; atomic_load(&alive) && waited < UNLOAD_WAIT_MS; waited += 50) {
		strip_all();
		usleep(50000);
	}
	if (atomic_load(&alive)) {
		ast_log(LOG_WARNING, "AudioFork cannot be unloaded yet: DTMF_GUARD still belongs to %d "
			"channel(s); try again later\n", atomic_load(&alive));
		atomic_store(&unloading, 0);
		return -1;
	}
	audiofork_guard_unregister();
	/* Whoever gave back the last reference has a return or two left in our code. */
	usleep(20000);
	ao2_cleanup(registry);
	registry = NULL;
	return 0;
}
