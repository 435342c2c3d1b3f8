/*
 * asterisk-dialog: the JSON messages of the fork.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief What a server asks for, read and checked. fork_json.h writes what it is told.
 *
 * docs/fork-protocol.md says what the messages mean. Pure: no allocation, socket, Asterisk.
 */

#ifndef FORK_MESSAGE_H
#define FORK_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fork_json.h"
#include "fork_keys.h"
#include "fork_ring.h"

/*! Longest text message, in bytes, either way. */
#define FORK_TEXT_MAX 4096
/*! Room for a prompt's id or a mark's name: 64 of A-Z a-z 0-9 . _ : - and the zero. */
#define FORK_ID_MAX 65
#define FORK_SAID_MAX 1025

enum fork_ask {
	FORK_ASK_PLAY,
	FORK_ASK_END,
	FORK_ASK_MARK,
	FORK_ASK_GUARD,
	FORK_ASK_CLEAR,
	FORK_ASK_PAUSE,
	FORK_ASK_RESUME,
	FORK_ASK_MUTE,
	FORK_ASK_STREAM,
	FORK_ASK_COUNTERS,
	FORK_ASK_TEXT,
	FORK_ASK_STOP,
};

/*! \brief One request of the server, checked; a field that its type does not have is zero. */
struct fork_request {
	enum fork_ask ask;
	char play[FORK_ID_MAX];       /*!< empty: not given (allowed in `clear` and `guard`) */
	char name[FORK_ID_MAX];       /*!< the mark's or the guard's */
	uint32_t rate_hz;             /*!< 8000, 16000, 24000 or 48000 */
	bool whisper;
	uint32_t live_ms;             /*!< at most 3600000, 0: nothing is skipped */
	int64_t at_ms;                /*!< the place, at most 10^9, -1: after the audio so far */
	enum fork_keys_mode mode;     /*!< the guard's, as the next three: OFF and TAKE are zero */
	uint16_t stopped;             /*!< keys, by their bits; 0 unless the mode is BLOCK or BUFFER */
	uint32_t limit_ms;            /*!< at most 3600000, 0: none; 0 unless BLOCK or BUFFER */
	enum fork_kept kept;
	bool direction[FORK_DIRECTIONS]; /*!< `in` is FORK_READ, `out` FORK_WRITE */
	bool on;
	char text[FORK_SAID_MAX];     /*!< valid UTF-8, no zero inside, but maybe line ends */
};

/*!
 * \brief Read a text message.
 *
 * Strict RFC 8259: UTF-8 checked, one object, nothing after it, nesting of values up to 8.
 * Keys that the protocol does not know, or not for this type, are passed over; one that it
 * knows may not be there twice. A number is wanted without a point and an exponent.
 *
 * \param request all zero but for its type's fields; when refused, of no use
 * \param about set to the message's type as far as it is a known one, else "message"
 * \param why room for a sentence on what is wrong: ASCII, shorter than 150, nothing that the
 * server has written is in it
 * \retval 0 done \retval -1 refused
 */
int fork_request_parse(struct fork_request *request, const char *text, size_t length,
	const char **about, char *why, size_t why_size);

/*! \brief The name of the type, as in the protocol. */
const char *fork_ask_name(enum fork_ask ask);

#endif /* FORK_MESSAGE_H */
