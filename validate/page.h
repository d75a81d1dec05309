/* A page that is written twice: as Markdown and as HTML. */
#ifndef VALIDATE_PAGE_H
#define VALIDATE_PAGE_H

#include <stdbool.h>
#include <stdio.h>

struct page {
    FILE *md, *html;
};

void page_heading(const struct page *p, const char *text);
void page_paragraph(const struct page *p, const char *text);
void page_image(const struct page *p, const char *name, const char *what); /* name.svg */

/* A table: its head, rows of as many cells, the end. */
void page_table_begin(const struct page *p, const char *const *head, int count);
void page_row(const struct page *p, const char *const *cells, int count, bool head);
void page_table_end(const struct page *p);

#endif
