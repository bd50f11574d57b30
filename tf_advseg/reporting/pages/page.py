"""What the HTML pages are made with: the Jinja2 environment, and images inside a page.

Templates escape every value. Only what a template of ours made goes into another one as it is.
"""
import base64
import pathlib

import jinja2
import markupsafe

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).resolve().parent / 'templates'),
    autoescape=True,
    undefined=jinja2.StrictUndefined,  # a value that was forgotten is an error, not a gap
    trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)


def render(template, **values):
    """A page as a string.

    Args:
      template: the name of a file in templates/.
      **values: what it shows; escaped, but for what `part` made.

    Raises:
      jinja2.UndefinedError: the template names a value that is not there.
    """
    return _ENVIRONMENT.get_template(template).render(**values)


def part(template, **values):
    """A part of a page as markupsafe.Markup, which `render` takes as it is; else like `render`."""
    return markupsafe.Markup(render(template, **values))


def figure(caption, image, width=None):
    """An image inside the page with its caption, as markupsafe.Markup.

    Args:
      caption: plain text.
      image: the bytes of a PNG or JPEG file.
      width: its width in pixels; a PNG's is read from its header.
    """
    png = image.startswith(b'\x89PNG')
    if width is None:
        width = int.from_bytes(image[16:20], 'big') if png else 0
    return part('figure.html', caption=caption, width=width, kind='png' if png else 'jpeg',
                data=base64.b64encode(image).decode('ascii'))
