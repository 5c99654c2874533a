#include "program/expr.h"

#include <stdarg.h>

/* How tightly a text binds: what stands in a tighter place gets parentheses. */
enum { BIND_RELATION, BIND_SUM, BIND_PRODUCT, BIND_SIGN, BIND_POWER, BIND_ATOM };

struct term {
    const char *text;
    int bind;
    bool is_number; /* digits, maybe with a sign */
};

struct reader {
    const char *s, *at, *end;
    unsigned depth;
    struct arena scratch; /* texts under way */
    size_t made;          /* bytes of them */
    int (*on_symbol)(void *ctx, const char *symbol, size_t len);
    void *ctx;
    struct pt2_err *err;
};

static int relation(struct reader *r, struct term *ret);

static int fail(struct reader *r, const char *what)
{
    return pt2_err_set(r->err, PT2_ERR_BAD_PROGRAM, "the expression '%.*s' %s",
                       (int)MIN(r->end - r->s, 200), r->s, what);
}

static int make(struct reader *r, struct term *ret, int bind, const char *fmt, ...)
    PT2_PRINTF(4, 5);
static int make(struct reader *r, struct term *ret, int bind, const char *fmt, ...)
{
    char text[EXPR_MAX_LEN + 1];
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof(text) ||
        (r->made += (size_t)n) > (size_t)256 * EXPR_MAX_LEN)
        return fail(r, "is too large");
    *ret = (struct term){arena_string(&r->scratch, text, (size_t)n), bind, false};
    return ret->text ? 0 : pt2_err_set(r->err, PT2_ERR_NOMEM, "an expression");
}

/* The term's text, in parentheses where it binds less than bind. */
static int within(struct reader *r, struct term *term, int bind)
{
    return term->bind >= bind ? 0 : make(r, term, BIND_ATOM, "(%s)", term->text);
}

static int join(struct reader *r, struct term *left, const char *operator,
                struct term right, int bind)
{
    /* a - b - c and a / b / c need no parentheses on the left alone */
    if (within(r, left, bind) < 0 || within(r, &right, bind + 1) < 0)
        return -1;
    return make(r, left, bind, "%s%s%s", left->text, operator, right.text);
}

/* ---- tokens ---- */

static bool take(struct reader *r, const char *token)
{
    size_t n = strlen(token);

    while (r->at < r->end && *r->at == ' ')
        r->at++;
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, token, n) != 0)
        return false;
    r->at += n;
    return true;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The identifier here, its length; 0 where there is none. */
static size_t identifier(struct reader *r, const char **ret)
{
    take(r, "");
    *ret = r->at;
    if (r->at == r->end || !is_letter(*r->at))
        return 0;
    while (r->at < r->end && (is_letter(*r->at) || is_digit(*r->at)))
        r->at++;
    return (size_t)(r->at - *ret);
}

static int symbol(struct reader *r, const char *name, size_t len, struct term *ret)
{
    if (len > EXPR_MAX_SYMBOL)
        return fail(r, "has a symbol with too long a name");
    if (r->on_symbol && r->on_symbol(r->ctx, name, len) < 0)
        return -1;
    return make(r, ret, BIND_ATOM, "%.*s", (int)len, name);
}

static int number(struct reader *r, struct term *ret)
{
    const char *from = r->at;
    int64_t value = 0;

    for (; r->at < r->end && is_digit(*r->at); r->at++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, *r->at - '0', &value))
            return fail(r, "has a number that does not fit in 64 bits");
    if (r->at < r->end && (*r->at == '.' || is_letter(*r->at)))
        return fail(r, "has a number that is not whole");
    if (make(r, ret, BIND_ATOM, "%.*s", (int)(r->at - from), from) < 0)
        return -1;
    ret->is_number = true;
    return 0;
}

/* ---- calls ---- */

/* The rest of Symbol('s0', positive=True, integer=True), "Symbol(" read. */
static int symbol_call(struct reader *r, struct term *ret)
{
    const char *name, *word, *quote = take(r, "'") ? "'" : take(r, "\"") ? "\"" : NULL;
    size_t len = quote ? identifier(r, &name) : 0;

    if (len == 0 || !take(r, quote))
        return fail(r, "has a symbol with no good name");
    while (take(r, ",")) {
        if (identifier(r, &word) == 0 || !take(r, "=") ||
            !(take(r, "True") || take(r, "False")))
            return fail(r, "says about a symbol what is not understood");
    }
    return take(r, ")") ? symbol(r, name, len, ret) : fail(r, "lacks a ')'");
}

/* What srepr spells as calls and we as operators. */
static int call_to_operator(struct reader *r, const char *name, size_t len,
                            struct term *args, size_t n, struct term *ret)
{
    static const struct {
        const char *name, *operator;
        int bind;
    } operators[] = {
        {"Add", " + ", BIND_SUM},
        {"Mul", "*", BIND_PRODUCT},
        {"Pow", "**", BIND_POWER},
        {"Rational", "/", BIND_PRODUCT},
        {"Equality", " == ", BIND_RELATION},
        {"Unequality", " != ", BIND_RELATION},
        {"StrictLessThan", " < ", BIND_RELATION},
        {"LessThan", " <= ", BIND_RELATION},
        {"StrictGreaterThan", " > ", BIND_RELATION},
        {"GreaterThan", " >= ", BIND_RELATION},
    };

    for (size_t i = 0; i < ARRAY_LEN(operators); i++) {
        int bind = operators[i].bind;

        if (strlen(operators[i].name) != len || memcmp(operators[i].name, name, len) != 0)
            continue;
        if (n < 2 || (bind != BIND_SUM && bind != BIND_PRODUCT && n != 2))
            return fail(r, "has a call with the wrong number of arguments");
        *ret = args[0];
        if (bind == BIND_POWER && within(r, ret, BIND_ATOM) < 0)
            return -1;
        for (size_t k = 1; k < n; k++)
            if (join(r, ret, operators[i].operator, args[k], bind) < 0)
                return -1;
        return 1;
    }
    return 0;
}

/* name(...), its "(" read. */
static int call(struct reader *r, const char *name, size_t len, struct term *ret)
{
    struct term args[16], list = {"", BIND_ATOM, false};
    size_t n = 0;
    int done;

    if (len == 6 && memcmp(name, "Symbol", 6) == 0)
        return symbol_call(r, ret);
    if (!take(r, ")")) {
        do {
            if (n == ARRAY_LEN(args))
                return fail(r, "has a call with too many arguments");
            if (relation(r, &args[n++]) < 0)
                return -1;
        } while (take(r, ","));
        if (!take(r, ")"))
            return fail(r, "lacks a ')'");
    }
    if (len == 7 && memcmp(name, "Integer", 7) == 0) {
        if (n != 1 || !args[0].is_number)
            return fail(r, "has an Integer that is none");
        *ret = args[0];
        return 0;
    }
    done = call_to_operator(r, name, len, args, n, ret);
    if (done != 0)
        return done > 0 ? 0 : -1;
    for (size_t i = 0; i < n; i++)
        if (make(r, &list, BIND_ATOM, "%s%s%s", list.text, i ? ", " : "", args[i].text) <
            0)
            return -1;
    return make(r, ret, BIND_ATOM, "%.*s(%s)", (int)len, name, list.text);
}

/* ---- the grammar, loosest first ---- */

static int atom(struct reader *r, struct term *ret)
{
    const char *name;
    size_t len = identifier(r, &name);

    if (len > 0)
        return take(r, "(") ? call(r, name, len, ret) : symbol(r, name, len, ret);
    if (r->at < r->end && is_digit(*r->at))
        return number(r, ret);
    if (!take(r, "("))
        return fail(r, r->at == r->end ? "is cut short" : "is not understood");
    if (relation(r, ret) < 0)
        return -1;
    return take(r, ")") ? 0 : fail(r, "lacks a ')'");
}

static int sign(struct reader *r, struct term *ret);

static int power(struct reader *r, struct term *ret)
{
    struct term exponent;

    if (atom(r, ret) < 0)
        return -1;
    if (!take(r, "**"))
        return 0;
    if (sign(r, &exponent) < 0 || within(r, ret, BIND_ATOM) < 0)
        return -1;
    return join(r, ret, "**", exponent, BIND_POWER);
}

static int sign(struct reader *r, struct term *ret)
{
    bool was_number;
    int result;

    if (!take(r, "-"))
        return power(r, ret);
    if (r->depth == EXPR_MAX_DEPTH)
        return fail(r, "is nested too deep");
    r->depth++;
    result = sign(r, ret);
    r->depth--;
    if (result < 0)
        return -1;
    was_number = ret->is_number && ret->text[0] != '-';
    if (within(r, ret, BIND_POWER) < 0 || make(r, ret, BIND_SIGN, "-%s", ret->text) < 0)
        return -1;
    ret->is_number = was_number;
    return 0;
}

static const char *product_operator(struct reader *r)
{
    static const char *const operators[] = {"*", "//", "/", "%"};

    for (size_t i = 0; i < ARRAY_LEN(operators); i++)
        if (take(r, operators[i]))
            return operators[i];
    return NULL;
}

static int product(struct reader *r, struct term *ret)
{
    const char *operator;
    struct term right;

    if (sign(r, ret) < 0)
        return -1;
    while ((operator= product_operator(r))) {
        if (sign(r, &right) < 0 || join(r, ret, operator, right, BIND_PRODUCT) < 0)
            return -1;
    }
    return 0;
}

static int sum(struct reader *r, struct term *ret)
{
    struct term right;
    bool is_plus;

    if (product(r, ret) < 0)
        return -1;
    while ((is_plus = take(r, "+")) || take(r, "-")) {
        if (product(r, &right) < 0 ||
            join(r, ret, is_plus ? " + " : " - ", right, BIND_SUM) < 0)
            return -1;
    }
    return 0;
}

static int relation(struct reader *r, struct term *ret)
{
    static const struct {
        const char *token, *text;
    } operators[] = {{"<=", " <= "}, {">=", " >= "}, {"==", " == "},
                     {"!=", " != "}, {"<", " < "},   {">", " > "}};
    struct term right;
    int result = 0;

    if (r->depth == EXPR_MAX_DEPTH)
        return fail(r, "is nested too deep");
    r->depth++;
    if (sum(r, ret) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(operators); i++) {
        if (!take(r, operators[i].token))
            continue;
        result = sum(r, &right) < 0
                     ? -1
                     : join(r, ret, operators[i].text, right, BIND_RELATION);
        break;
    }
    r->depth--;
    return result;
}

int expr_read(const char *s, size_t len,
              int (*on_symbol)(void *ctx, const char *symbol, size_t len), void *ctx,
              struct arena *arena, const char **ret_text, int64_t *ret_number,
              struct pt2_err *err)
{
    struct reader r = {
        .s = s, .at = s, .end = s + len, .on_symbol = on_symbol, .ctx = ctx, .err = err};
    struct term term;
    int result;

    if (len == 0 || len > EXPR_MAX_LEN)
        return pt2_err_set(err, PT2_ERR_BAD_PROGRAM,
                           "an expression of %zu bytes, must be 1 to %d", len,
                           EXPR_MAX_LEN);
    result = relation(&r, &term);
    take(&r, ""); /* spaces at the end */
    if (result == 0 && r.at < r.end)
        result = fail(&r, "is not understood");
    if (result == 0 && term.is_number) {
        *ret_text = NULL;
        *ret_number = strtoll(term.text, NULL, 10);
    } else if (result == 0) {
        *ret_text = arena_string(arena, term.text, strlen(term.text));
        if (!*ret_text)
            result = pt2_err_set(err, PT2_ERR_NOMEM, "an expression");
    }
    arena_done(&r.scratch);
    return result;
}

bool expr_is_symbol(const char *text)
{
    if (!is_letter(*text))
        return false;
    while (is_letter(*text) || is_digit(*text))
        text++;
    return *text == '\0';
}
