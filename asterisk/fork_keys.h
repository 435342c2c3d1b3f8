/*
 * asterisk-dialog: keys during prompts.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief What happens to each key of a channel: passed, blocked, or kept and released later.
 *
 * Pure: no clock, no lock, no Asterisk. Whoever calls has the machine for himself.
 *
 * A key is judged once, at its beginning (at its end, if it has no beginning): what the mode
 * becomes while it is held does not change its fate. So no reader ever sees half a key.
 *
 * What always holds
 * - each key that has ended is counted in one of passed, blocked, buffered, overflow;
 * - buffered = released + taken + cleared + what is kept;
 * - in PASS and OFF later keys go behind those that are still kept; keys that the mode exempts
 *   ("block(0-9)") go at once, as all do where what is kept is to stay (FORK_KEPT_STAY).
 * - a mode with a limit stops no key that goes down at the limit or later.
 */

#ifndef FORK_KEYS_H
#define FORK_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*! Keys kept; one more is refused and counted. */
#define FORK_KEYS_MAX 64
/*! The keys there are, by their bits; all others (fax tones) are none of our business. */
#define FORK_KEYS_ALL "0123456789*#ABCD"
/*! All of them, by their bits. */
#define FORK_KEYS_EVERY 0xffffU
/*! A released key is played back no longer than this: the caller's voice is cut out meanwhile. */
#define FORK_KEY_RELEASE_MAX_MS 1000
/*! Room for fork_keys_status(). */
#define FORK_KEYS_STATUS_MAX 512

enum fork_keys_mode {
	FORK_KEYS_OFF,     /*!< as PASS, and nobody need look any more once all is let out */
	FORK_KEYS_PASS,
	FORK_KEYS_BLOCK,
	FORK_KEYS_BUFFER,
};

/*! \brief What becomes of the keys that are kept when an order comes in force. */
enum fork_kept {
	FORK_KEPT_TAKE,    /*!< whoever orders has been told of them: they are his, and never released */
	FORK_KEPT_RELEASE,
	FORK_KEPT_STAY,    /*!< kept on, though the mode be open */
};

/*! \brief A mode as a server wants it. All zeros: OFF. */
struct fork_keys_order {
	enum fork_keys_mode mode;
	uint16_t stopped;  /*!< keys that BLOCK and BUFFER stop, by their bits */
	enum fork_kept kept;
	uint64_t until_ms; /*!< in force no longer than this; 0: no limit */
};

enum fork_key_verdict {
	FORK_KEY_PASSED,
	FORK_KEY_BLOCKED,  /*!< dropped: by the mode, or because the buffer was full */
	FORK_KEY_BUFFERED,
	FORK_KEY_RELEASED, /*!< a buffered key again, now let out */
};

struct fork_key {
	char digit;
	unsigned int duration_ms;
};

/*! \brief A key that has ended, for whoever is told about keys; digit 0: none has. */
struct fork_key_end {
	struct fork_key key;
	enum fork_key_verdict verdict;
};

struct fork_keys_counters {
	unsigned int passed, blocked, buffered, overflow;
	unsigned int released, taken, cleared;
};

/*! \brief The keys of one channel. All zeros is a good start: OFF. */
struct fork_keys {
	enum fork_keys_mode mode;
	uint16_t stopped;          /*!< keys that BLOCK and BUFFER stop, by their bits */
	struct fork_key held;      /*!< the key that has begun and not ended; digit 0: none */
	uint64_t held_since_ms;
	enum fork_key_verdict held_verdict;
	bool held_taken;           /*!< it will be kept, and taken at once */
	bool stay;                 /*!< the kept ones stay though the mode is open */
	uint64_t until_ms;         /*!< then the mode becomes PASS; 0: no limit */
	struct fork_key kept[FORK_KEYS_MAX]; /*!< a ring */
	unsigned int first, count;
	unsigned int due;          /*!< so many of the kept ones may go although the mode holds them */
	struct fork_keys_counters counters;
};

/*! \brief Whether it is one of FORK_KEYS_ALL; a to d count as A to D. */
bool fork_key_known(int digit);

/*!
 * \brief Read "pass", "off", "block", "buffer", or the latter two with keys: "block(0-9*)".
 * \retval 0 done \retval -1 it makes no sense
 */
int fork_keys_mode_parse(const char *text, enum fork_keys_mode *mode, uint16_t *stopped);
const char *fork_keys_mode_name(enum fork_keys_mode mode);
const char *fork_key_verdict_name(enum fork_key_verdict verdict);

/*!
 * \brief Read keys alone: "0-9*".
 * \retval 0 done \retval -1 it makes no sense, or names none
 */
int fork_keys_digits_parse(const char *text, uint16_t *stopped);
const char *fork_kept_name(enum fork_kept kept);

/*! \brief The dialplan's way: what is kept goes once the mode is open; without a limit. */
void fork_keys_set(struct fork_keys *k, enum fork_keys_mode mode, uint16_t stopped);
/*! \brief The server's way. A key that is held will be kept as its beginning was judged. */
void fork_keys_obey(struct fork_keys *k, const struct fork_keys_order *order);
/*! \brief Whoever gave the last order is gone: PASS; what is kept stays. */
void fork_keys_leave(struct fork_keys *k);
/*! \brief Look at the clock: is the mode past its limit? Each key that is judged looks by itself. */
void fork_keys_look(struct fork_keys *k, uint64_t now_ms);

/*!
 * \brief A key goes down.
 * \param ended a key whose end was lost is over now
 * \return whether its reader may see it
 */
bool fork_keys_begin(struct fork_keys *k, char digit, uint64_t now_ms, struct fork_key_end *ended);

/*!
 * \brief A key goes up.
 * \param length_ms as the wire tells, 0: not told
 * \param begun its reader saw it begin before we did look: he must see its end
 * \return whether its reader may see it
 */
bool fork_keys_end(struct fork_keys *k, char digit, unsigned int length_ms, uint64_t now_ms,
	bool begun, struct fork_key_end *ended);

/*! \brief Let the oldest `count` of the kept keys go although the mode holds them. */
void fork_keys_release(struct fork_keys *k, unsigned int count);
/*! \brief Whether a kept key is to go now. */
bool fork_keys_due(const struct fork_keys *k);
/*! \brief The next one to go; only when fork_keys_due(). */
struct fork_key fork_keys_next(struct fork_keys *k);

/*! \brief Throw the kept keys away. \return how many */
unsigned int fork_keys_clear(struct fork_keys *k);
/*! \brief The kept keys as text, oldest first. */
void fork_keys_show(const struct fork_keys *k, char text[FORK_KEYS_MAX + 1]);
/*! \brief The same, and they are the caller's now: never released. */
void fork_keys_take(struct fork_keys *k, char text[FORK_KEYS_MAX + 1]);
/*! \brief The keys that the mode stops, as text. */
void fork_keys_stopped(const struct fork_keys *k, char text[sizeof(FORK_KEYS_ALL)]);

/*! \brief Nothing is left to do: OFF, none kept, none held that must not be seen. */
bool fork_keys_idle(const struct fork_keys *k);

/*! \brief All of it: "mode=block,digits=0123456789*#ABCD,passed=0,…,waiting=2,keys=12". */
void fork_keys_status(const struct fork_keys *k, char text[FORK_KEYS_STATUS_MAX]);

#endif /* FORK_KEYS_H */
