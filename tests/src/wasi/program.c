/* What tests of modules run: it does what its first argument says. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int copy(FILE *from, FILE *to) {
    char buffer[4096];
    size_t count;
    while ((count = fread(buffer, 1, sizeof buffer, from)) > 0)
        fwrite(buffer, 1, count, to);
    return fclose(to);
}

static int keep(const char *variable, const char *text) {
    FILE *file = fopen(getenv(variable), "w");
    if (!file)
        return 1;
    fputs(text, file);
    return fclose(file);
}

static int recurse(volatile int depth) {
    char fill[256];
    memset(fill, depth, sizeof fill);
    return recurse(depth + 1) + fill[depth & 255];
}

/* Says something, and goes on once there is a file of that name. */
static int await(const char *name) {
    FILE *file;
    puts("first");
    fflush(stdout);
    while (!(file = fopen(name, "r")))
        usleep(2000);
    puts("last");
    return fclose(file);
}

/* Kept where the compiler can't tell that nobody looks. */
static char *volatile piece;

static int eat(void) {
    int eaten = 0;
    while ((piece = malloc(1 << 20))) {
        memset(piece, 1, 1 << 20);
        eaten++;
    }
    printf("%d\n", eaten);
    return 3;
}

/* Writes so many mebibytes to a file that has no name any more, and stays. */
static int swell(int mebibytes) {
    static char zeros[1 << 20];
    FILE *file = fopen("swollen", "w");
    if (!file || unlink("swollen"))
        return errno;
    while (mebibytes-- > 0)
        if (fwrite(zeros, 1, sizeof zeros, file) != sizeof zeros)
            return errno;
    for (;;)
        usleep(1000000);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (!strcmp(mode, "echo")) {
        for (int i = 1; i < argc; i++)
            printf("[%s]", argv[i]);
        printf("\n%s %s %s\n", getenv("COLOUR"), getenv("LD_PRELOAD"), getenv("JOBMESH_RUN"));
        return copy(stdin, stdout);
    }
    if (!strcmp(mode, "copy")) {
        FILE *from = fopen(argv[2], "r"), *to = fopen(argv[3], "w");
        return from && to ? copy(from, to) : errno;
    }
    if (!strcmp(mode, "await"))
        return await(argv[2]);
    if (!strcmp(mode, "open")) {
        FILE *file = fopen(argv[2], "r");
        printf(file ? "opened\n" : "refused: %s\n", strerror(errno));
        return 0;
    }
    if (!strcmp(mode, "say"))
        return keep("JOBMESH_OUTCOME", argv[2]) || keep("JOBMESH_RESULT", argv[3]);
    if (!strcmp(mode, "eat"))
        return eat();
    if (!strcmp(mode, "swell"))
        return swell(atoi(argv[2]));
    if (!strcmp(mode, "recurse"))
        return recurse(0);
    if (!strcmp(mode, "abort"))
        abort();
    if (!strcmp(mode, "hang")) {
        printf("no end of line");
        fflush(stdout);
        for (;;)
            ;
    }
    return 64;
}
