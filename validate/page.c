/* Markdown and HTML at once. */
#include "validate/page.h"

static void escaped(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '<')
            fputs("&lt;", out);
        else if (*text == '&')
            fputs("&amp;", out);
        else
            fputc(*text, out);
    }
}

void page_heading(const struct page *p, const char *text)
{
    fprintf(p->md, "\n## %s\n\n", text);
    fputs("<h2>", p->html);
    escaped(p->html, text);
    fputs("</h2>\n", p->html);
}

void page_paragraph(const struct page *p, const char *text)
{
    fprintf(p->md, "%s\n\n", text);
    fputs("<p>", p->html);
    escaped(p->html, text);
    fputs("</p>\n", p->html);
}

void page_image(const struct page *p, const char *name, const char *what)
{
    fprintf(p->md, "![%s](%s.svg)\n\n", what, name);
    fprintf(p->html, "<p><img src=\"%s.svg\" alt=\"%s\"></p>\n", name, what);
}

void page_row(const struct page *p, const char *const *cells, int count, bool head)
{
    const char *tag = head ? "th" : "td";
    fputs("<tr>", p->html);
    for (int i = 0; i < count; i++) {
        fprintf(p->md, "| %s ", cells[i]);
        fprintf(p->html, "<%s>", tag);
        escaped(p->html, cells[i]);
        fprintf(p->html, "</%s>", tag);
    }
    fputs("|\n", p->md);
    fputs("</tr>\n", p->html);
    for (int i = 0; head && i < count; i++)
        fputs("|---", p->md);
    if (head)
        fputs("|\n", p->md);
}

void page_table_begin(const struct page *p, const char *const *head, int count)
{
    fputs("<table>\n", p->html);
    page_row(p, head, count, true);
}

void page_table_end(const struct page *p)
{
    fputs("\n", p->md);
    fputs("</table>\n", p->html);
}
