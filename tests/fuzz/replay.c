/*
 * asterisk-dialog: a fuzz target without libFuzzer.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief replay RUNS FILE...: each file as it is, then RUNS times one of them with some damage.
 *
 * For any compiler, and for a machine without clang. It sees no coverage: it finds what is
 * near to the files, and the same at each run.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILES 256
#define LONGEST 8192

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
	uint8_t *data;
	size_t size;
} files[FILES];

static uint64_t state = 88172645463325252U;

static size_t below(size_t limit)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return limit ? (size_t) (state % limit) : 0;
}

/*! \brief Put `size` bytes at `place` instead of `removed` ones, as far as there is room. */
static size_t splice(uint8_t *data, size_t length, size_t place, size_t removed,
	const uint8_t *given, size_t size)
{
	if (length - removed + size > LONGEST) {
		return length;
	}
	memmove(data + place + size, data + place + removed, length - place - removed);
	memcpy(data + place, given, size);
	return length - removed + size;
}

static size_t damage(uint8_t *data, size_t length)
{
	static const char characters[] = "\"\"{}[]:,\\u0d8fe-+.1tn \n\t\x7f\x80\xbf\xc3\xe2\xf0\xff";
	size_t from = below(FILES), place = below(length), removed = below(length - place + 1);
	uint8_t byte = (uint8_t) characters[below(sizeof(characters))];

	switch (below(6)) {
	case 0:
		return splice(data, length, place, length > 0, &byte, 1);
	case 1:
		return splice(data, length, place, 0, &byte, 1);
	case 2:
		return splice(data, length, place, removed % 8, &byte, 0);
	case 3:
		byte = (uint8_t) below(256);
		return splice(data, length, place, length > 0, &byte, 1);
	case 4: /* a piece of another file */
		while (!files[from].data) {
			from = below(FILES);
		}
		removed = below(files[from].size);
		return splice(data, length, place, 0, files[from].data + removed,
			below(files[from].size - removed + 1));
	default:
		return below(8) ? length : place;
	}
}

/*! \brief In memory of just that size, so that a byte read behind it is seen. */
static void run(const uint8_t *data, size_t size)
{
	uint8_t *exact = malloc(size ? size : 1);

	if (!exact) {
		abort();
	}
	memcpy(exact, data, size);
	LLVMFuzzerTestOneInput(exact, size);
	free(exact);
}

static void load(size_t i, const char *name)
{
	FILE *file = fopen(name, "rb");

	files[i].data = malloc(LONGEST);
	if (!file || !files[i].data) {
		perror(name);
		exit(1);
	}
	files[i].size = fread(files[i].data, 1, LONGEST, file);
	fclose(file);
}

int main(int argc, char **argv)
{
	static uint8_t data[LONGEST];
	size_t count = (size_t) (argc < 3 ? 0 : argc - 2), runs = count ? strtoul(argv[1], NULL, 10) : 0;

	if (!count || count > FILES) {
		fprintf(stderr, "replay RUNS FILE...\n");
		return 2;
	}
	for (size_t i = 0; i < count; i++) {
		load(i, argv[i + 2]);
		run(files[i].data, files[i].size);
	}
	for (size_t i = 0; i < runs; i++) {
		size_t file = below(count), length = files[file].size;

		memcpy(data, files[file].data, length);
		for (size_t n = 1 + below(4); n; n--) {
			length = damage(data, length);
		}
		run(data, length);
	}
	printf("%zu files, %zu runs\n", count, runs);
	return 0;
}
