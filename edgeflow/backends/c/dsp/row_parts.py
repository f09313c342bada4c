"""A C function that copies a part of an image's row with the padding beside it, which layers share."""

from __future__ import annotations

from edgeflow.backends.c.kernel import Shared

_TEXT = """\
/* `columns` columns of `size` bytes from `column` on of a row of `width`; those beside it, and all of a row outside of
 * the image, have the pad value. */
static void copy_columns(
    void *to, const void *row, int32_t column, int32_t columns, int32_t width, int32_t size, int32_t pad)
{
    const int32_t first = column < 0 ? 0 : column;
    const int32_t end = column + columns < width ? column + columns : width;
    memset(to, (int)pad, (size_t)(columns * size));
    if (row && first < end) {
        memcpy((uint8_t *)to + (first - column) * size, (const uint8_t *)row + first * size,
            (size_t)((end - first) * size));
    }
}
"""

COPY_COLUMNS = Shared("copy_columns", _TEXT, 92)
