"""Settings of Sphinx for the course's web page; `python course.py book` hands it the pages."""

from tools.book.__main__ import REPOSITORY

project = "Images larger than memory"
author = "the contributors of the course"
copyright = "2026, " + author
extensions = ["myst_nb"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # would be loaded from elsewhere
nb_code_prompt_show = "Show the solution"
nb_code_prompt_hide = "Hide the solution"

html_theme = "sphinx_book_theme"
html_title = project
html_favicon = "static/favicon.svg"
html_context = {"default_mode": "auto"}
html_static_path = ["static"]
html_css_files = ["book.css"]
html_js_files = ["book.js"]
html_copy_source = False
html_use_index = False
html_theme_options = {
    "repository_url": f"https://github.com/{REPOSITORY}" if REPOSITORY else "",
    "use_repository_button": bool(REPOSITORY),
    "use_download_button": False,
    "home_page_in_toc": True,
    "navbar_persistent": [],
    "search_bar_text": "Search the course",
}
