/* ctl_program_show.h - a program's facts for people: what GET /v1/programs/{id} answers.
 */
#ifndef CMD_CTL_PROGRAM_SHOW_H
#define CMD_CTL_PROGRAM_SHOW_H

#include <jansson.h>

/* On standard output, a fact a line; members that are not there are left out. */
void show_program(const json_t *program);

#endif
