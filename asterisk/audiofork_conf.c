/*
 * asterisk-dialog: audiofork.conf.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief audiofork.conf, checked as a whole before any of it is in force.
 */

#include "audiofork.h"

#include "asterisk/config.h"
#include "asterisk/logger.h"
#include "asterisk/utils.h"

static AO2_GLOBAL_OBJ_STATIC(current);

struct number {
	const char *name;
	unsigned int low, high;
	size_t offset;
};

#define NUMBER(field, low, high) { #field, low, high, offsetof(struct audiofork_conf, field) }

static const struct number numbers[] = {
	NUMBER(ring_ms, 100, 30000),
	NUMBER(connect_timeout_ms, 100, 60000),
	NUMBER(stall_timeout_ms, 0, 600000),
	NUMBER(flush_ms, 0, 10000),
	NUMBER(play_buffer_ms, 500, 60000),
	NUMBER(reconnect_attempts, 0, 1000000),
	NUMBER(reconnect_delay_ms, 50, 60000),
	NUMBER(reconnect_max_delay_ms, 50, 600000),
};

static void set_defaults(struct audiofork_conf *conf)
{
	conf->ring_ms = 2000;
	conf->connect_timeout_ms = 5000;
	conf->stall_timeout_ms = 10000;
	conf->flush_ms = 1000;
	conf->play_buffer_ms = 4000;
	conf->reconnect_delay_ms = 500;
	conf->reconnect_max_delay_ms = 10000;
}

static int set_number(struct audiofork_conf *conf, const struct ast_variable *var)
{
	unsigned int value;

	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		if (strcasecmp(var->name, numbers[i].name)) {
			continue;
		}
		if (sscanf(var->value, "%30u", &value) != 1 || strspn(var->value, "0123456789")
			!= strlen(var->value) || value < numbers[i].low || value > numbers[i].high) {
			ast_log(LOG_ERROR, "audiofork.conf line %d: %s must be a number from %u to %u\n",
				var->lineno, var->name, numbers[i].low, numbers[i].high);
			return -1;
		}
		*(unsigned int *) ((char *) conf + numbers[i].offset) = value;
		return 0;
	}
	ast_log(LOG_ERROR, "audiofork.conf line %d: unknown setting '%s'\n", var->lineno, var->name);
	return -1;
}

static int set_flag(int *flag, const struct ast_variable *var)
{
	if (!ast_true(var->value) && !ast_false(var->value)) {
		ast_log(LOG_ERROR, "audiofork.conf line %d: %s must be yes or no\n", var->lineno,
			var->name);
		return -1;
	}
	*flag = ast_true(var->value);
	return 0;
}

static int add_allow(struct audiofork_conf *conf, const struct ast_variable *var)
{
	struct fork_url url;
	const char *why = "more than the possible number of entries";

	if (conf->allow_count == AUDIOFORK_ALLOW_MAX || fork_url_parse(&url, var->value, &why)) {
		ast_log(LOG_ERROR, "audiofork.conf line %d: allow = %s: %s\n", var->lineno, var->value,
			why);
		return -1;
	}
	ast_copy_string(conf->allow[conf->allow_count++], var->value, sizeof(conf->allow[0]));
	return 0;
}

static int set_one(struct audiofork_conf *conf, const struct ast_variable *var)
{
	if (!strcasecmp(var->name, "allow")) {
		return add_allow(conf, var);
	}
	if (!strcasecmp(var->name, "post_command")) {
		return set_flag(&conf->post_command, var);
	}
	if (!strcasecmp(var->name, "reconnect")) {
		return set_flag(&conf->reconnect, var);
	}
	if (!strcasecmp(var->name, "tls_ca_file")) {
		if (!ast_strlen_zero(var->value) && access(var->value, R_OK)) {
			ast_log(LOG_ERROR, "audiofork.conf line %d: cannot read %s: %s\n", var->lineno,
				var->value, strerror(errno));
			return -1;
		}
		ast_copy_string(conf->tls_ca_file, var->value, sizeof(conf->tls_ca_file));
		return 0;
	}
	if (!strcasecmp(var->name, "direction_names")) {
		conf->dmarenin_names = !strcasecmp(var->value, "dmarenin");
		if (!conf->dmarenin_names && strcasecmp(var->value, "standard")) {
			ast_log(LOG_ERROR, "audiofork.conf line %d: direction_names must be standard or "
				"dmarenin\n", var->lineno);
			return -1;
		}
		return 0;
	}
	return set_number(conf, var);
}

static int read_general(struct audiofork_conf *conf, struct ast_config *cfg)
{
	int errors = 0;

	for (struct ast_variable *var = ast_variable_browse(cfg, "general"); var; var = var->next) {
		errors += set_one(conf, var) ? 1 : 0;
	}
	return errors;
}

static int read_servers(struct audiofork_conf *conf, struct ast_config *cfg)
{
	const char *name = NULL;
	int errors = 0;

	while ((name = ast_category_browse(cfg, name))) {
		if (strcasecmp(name, "general")) {
			errors += audiofork_server_add(conf, name, ast_variable_browse(cfg, name));
		}
	}
	return errors;
}

static void conf_destroy(void *obj)
{
	audiofork_servers_free(obj);
}

int audiofork_conf_load(void)
{
	/* Read even when it has not changed: the files it names may have. */
	struct ast_flags flags = { 0 };
	struct ast_config *cfg = ast_config_load("audiofork.conf", flags);
	struct audiofork_conf *conf;
	int errors = 0;

	if (cfg == CONFIG_STATUS_FILEINVALID) {
		ast_log(LOG_ERROR, "audiofork.conf cannot be parsed\n");
		return -1;
	}
	conf = ao2_alloc_options(sizeof(*conf), conf_destroy, AO2_ALLOC_OPT_LOCK_NOLOCK);
	if (conf) {
		set_defaults(conf);
		errors = cfg ? read_general(conf, cfg) + read_servers(conf, cfg) : 0;
	}
	if (cfg) {
		ast_config_destroy(cfg);
	} else {
		ast_log(LOG_NOTICE, "There is no audiofork.conf: the defaults are in force\n");
	}
	if (!conf || errors) {
		ao2_cleanup(conf);
		return -1;
	}
	ao2_global_obj_replace_unref(current, conf);
	ao2_ref(conf, -1);
	return 0;
}

void audiofork_conf_unload(void)
{
	ao2_global_obj_release(current);
}

struct audiofork_conf *audiofork_conf_get(void)
{
	return ao2_global_obj_ref(current);
}
