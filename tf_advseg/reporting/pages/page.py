"""The frame of the HTML reports: style, sections, figures, and nothing fetched from anywhere."""
import base64
import html

# Doubled braces: the text goes through str.format.
PAGE = '''<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1d2126; --soft: #5b6470; --paper: #ffffff;
  --line: #d9dde3; --tint: #f4f6f8; --up: #1b7f4b; --down: #b5402f; --bar: #5d9bd8; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e4e7eb; --soft: #9aa4b0; --paper: #16191d; --line: #343a42;
    --tint: #1f242a; --up: #5cc98f; --down: #ef8a78; --bar: #3f78b0; }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; max-width: 64rem; padding: 1rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "DejaVu Sans", sans-serif; overflow-wrap: break-word; }}
h1 {{ font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; }}
h2 {{ font-size: 1.15rem; margin: 2rem 0 .5rem; padding-bottom: .25rem;
  border-bottom: 1px solid var(--line); }}
p {{ margin: .4rem 0; max-width: 46rem; }}
.state {{ font-size: .8rem; font-weight: normal; color: var(--soft); white-space: nowrap;
  border: 1px solid var(--line); border-radius: 1rem; padding: .1rem .6rem;
  vertical-align: middle; }}
.note {{ border-left: 3px solid var(--bar); padding: .3rem .8rem; background: var(--tint); }}
.missing, .small, figcaption, caption {{ color: var(--soft); font-size: .875rem; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .9rem; margin: .8rem 0;
  font-variant-numeric: tabular-nums; }}
caption {{ text-align: left; padding-bottom: .3rem; }}
th, td {{ padding: .2rem .6rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }}
th:first-child {{ text-align: left; font-weight: normal; }}
thead th {{ font-weight: 600; }}
th.group {{ text-align: center; border-left: 1px solid var(--line); }}
td.word {{ text-align: left; white-space: normal; overflow-wrap: anywhere; }}
tr.total th, tr.total td {{ font-weight: 600; background: var(--tint); }}
.up {{ color: var(--up); }} .down {{ color: var(--down); }}
td.bar {{ width: 12rem; min-width: 6rem; }}
td.bar i {{ display: block; height: .7rem; background: var(--bar); border-radius: 2px; }}
figure {{ margin: 1rem 0 1.5rem; }}
img {{ display: block; max-width: 100%; height: auto; background: #fff; border-radius: 6px; }}
@media (max-width: 40rem) {{ figure img {{ max-width: none;
  width: calc(var(--wide) * .7); }} }}
pre {{ overflow-x: auto; background: var(--tint); padding: .8rem; border-radius: 6px;
  font: .8rem/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, monospace; }}
summary {{ cursor: pointer; color: var(--soft); }}
</style>
</head>
<body>
{body}
</body>
</html>
'''


def section(title, *parts):
    """A section of a page: its heading, and parts that are HTML already."""
    return f'<section><h2>{html.escape(title)}</h2>\n' + '\n'.join(parts) + '\n</section>'


def figure(caption, picture, width=None):
    """A picture inside the page with its caption.

    Args:
      caption: plain text.
      picture: the bytes of a PNG or JPEG file.
      width: its width in pixels; a PNG's is read from its header.
    """
    text = html.escape(str(caption), quote=True)
    png = picture.startswith(b'\x89PNG')
    if width is None:
        width = int.from_bytes(picture[16:20], 'big') if png else 0
    data = (f'data:image/{"png" if png else "jpeg"};base64,'
            + base64.b64encode(picture).decode('ascii'))
    return (f'<figure><div class="scroll"><img style="--wide:{width}px" alt="{text}" '
            f'src="{data}"></div><figcaption>{text}</figcaption></figure>')
