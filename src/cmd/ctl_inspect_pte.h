/* ctl_inspect_pte.h - pt2ctl inspect of an ExecuTorch program. */
#ifndef CMD_CTL_INSPECT_PTE_H
#define CMD_CTL_INSPECT_PTE_H

#include "cmd/ctl.h"

/* By its first bytes; the file's place is as it was. */
bool ctl_is_pte(FILE *file);
MUST_USE int ctl_inspect_pte(struct ctl *ctl, FILE *file, const char *path);

#endif
