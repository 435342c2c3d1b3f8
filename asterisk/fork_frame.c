/*
 * asterisk-dialog: WebSocket frames as a client sends them.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

#include "fork_frame.h"

#include <string.h>

#define FINAL 0x80
#define OPCODE_TEXT 1
#define OPCODE_BINARY 2
#define MASKED 0x80
#define LENGTH_IN_TWO 126

/*! \brief `out` = `in` with the key over it, eight bytes at a time. */
static void mask(unsigned char *out, const unsigned char *in, size_t bytes,
	const unsigned char key[4])
{
	uint64_t twice, word;
	size_t i = 0;

	memcpy(&twice, key, 4);
	memcpy((unsigned char *) &twice + 4, key, 4);
	for (; i + sizeof(word) <= bytes; i += sizeof(word)) {
		memcpy(&word, in + i, sizeof(word));
		word ^= twice;
		memcpy(out + i, &word, sizeof(word));
	}
	for (; i < bytes; i++) {
		out[i] = in[i] ^ key[i & 3];
	}
}

size_t fork_frame(unsigned char *out, const unsigned char *payload, size_t bytes, bool text,
	const unsigned char key[4])
{
	size_t head = 2;

	out[0] = FINAL | (text ? OPCODE_TEXT : OPCODE_BINARY);
	if (bytes < LENGTH_IN_TWO) {
		out[1] = (unsigned char) (MASKED | bytes);
	} else {
		out[1] = MASKED | LENGTH_IN_TWO;
		out[2] = (unsigned char) (bytes >> 8);
		out[3] = (unsigned char) bytes;
		head = 4;
	}
	memcpy(out + head, key, 4);
	mask(out + head + 4, payload, bytes, key);
	return head + 4 + bytes;
}
