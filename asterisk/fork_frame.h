/*
 * asterisk-dialog: WebSocket frames as a client sends them.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief One message, one frame, masked (RFC 6455, 5.2 and 5.3). Pure.
 */

#ifndef FORK_FRAME_H
#define FORK_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*! Bytes before the payload, at most: two, the length in two more, the masking key. */
#define FORK_FRAME_HEAD 8
/*! Longer payloads would want a length of eight bytes. */
#define FORK_FRAME_PAYLOAD_MAX 65535

/*!
 * \brief Write a whole message's frame.
 * \param out room for FORK_FRAME_HEAD + bytes
 * \param bytes of the payload, at most FORK_FRAME_PAYLOAD_MAX
 * \param key new and unpredictable for each frame
 * \return length of the frame
 */
size_t fork_frame(unsigned char *out, const unsigned char *payload, size_t bytes, bool text,
	const unsigned char key[4]);

#endif /* FORK_FRAME_H */
