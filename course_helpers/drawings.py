"""Drawings of the lessons: graphs, chunks, tiles and their margins."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.patches import Circle, Ellipse, Rectangle
from scipy import ndimage as ndi

from course_helpers.recording import COUNTED, LOADED, PREPROCESSED, memory_of


def draw_graph(plan):
    """Draw the tasks of a delayed object from left to right; arrows hand results on. The result is the networkx graph."""
    import networkx  # here, because it takes a while, and other lessons draw no graph

    tasks = plan.dask.to_dict()
    graph = networkx.DiGraph()
    graph.add_nodes_from(tasks)
    graph.add_edges_from((needed, name) for name, task in tasks.items() for needed in task.dependencies)
    labels = {name: " ".join([task.func.__name__, *_numbers(task)]) for name, task in tasks.items()}

    def begins_with(name):
        return sorted((len(labels[task]), labels[task]) for task in {name, *networkx.ancestors(graph, name)})

    columns = {}
    for column, names in enumerate(networkx.topological_generations(graph)):
        columns[column] = sorted(names, key=begins_with, reverse=True)
    positions = networkx.multipartite_layout(graph, subset_key=columns)
    options = {"node_color": "none", "arrowsize": 20, "min_source_margin": 40, "min_target_margin": 40}
    networkx.draw_networkx(
        graph, positions, labels=labels, bbox={"boxstyle": "round", "facecolor": "lavender"}, **options
    )
    plt.margins(0.15)
    plt.axis("off")
    return graph


def _numbers(task):
    return [str(value) for value in task.args if isinstance(value, int)]


def draw_chunks(axes, shape, chunks, selection):
    """Draw the grid of an image's chunks: blue those that the selection touches, whose number is returned, and it in orange.

    `selection` is two slices, such as ``np.s_[0:10, :]``.
    """
    edges = [np.append(np.arange(0, size, step), size) for size, step in zip(shape, chunks)]
    spans = [part.indices(size)[:2] for part, size in zip(selection, shape)]
    rows, columns = [(along[:-1] < stop) & (along[1:] > start) for along, (start, stop) in zip(edges, spans)]
    touched = np.outer(rows, columns)
    axes.pcolormesh(*edges[::-1], touched, edgecolors="gray", linewidth=0.5, cmap="Blues", vmax=1.5)
    (top, bottom), (left, right) = spans
    outline = {"fill": False, "edgecolor": "darkorange", "linewidth": 2}
    axes.add_patch(Rectangle((left, top), right - left, bottom - top, **outline))
    axes.set(aspect="equal", xlim=(0, shape[1]), ylim=(shape[0], 0))
    return int(touched.sum())


def draw_costs(costs, titles):
    """Draw what ways of reading cost in chunks of several shapes: a bar chart for each title, on a logarithmic axis.

    `costs` is a list of (way, name of the chunks, a cost for each title).
    """
    ways, names = (list(dict.fromkeys(column)) for column in list(zip(*costs))[:2])
    axes = plt.subplots(1, len(titles), figsize=(5 * len(titles), 3.4), layout="constrained")[1]
    for number, (axis, title) in enumerate(zip(axes, titles), start=2):
        for place, (name, color) in enumerate(zip(names, plt.cm.viridis(np.linspace(0, 1, len(names))))):
            heights = [cost[number] for cost in costs if cost[1] == name]
            bars = axis.bar(np.arange(len(ways)) + 0.21 * place, heights, 0.21, color=color, label=name)
            axis.bar_label(bars, fontsize=8)
        axis.set(title=title, yscale="log", ylim=(0.5, 2 * max(cost[number] for cost in costs)))
        axis.set_xticks(np.arange(len(ways)) + 0.105 * (len(names) - 1), ways)
    axes[0].legend(title="chunks")


def show_difference(axes, difference, title, limit=5):
    """Draw a difference: white where it is zero, blue below, red above; the darkest tones stand for this limit and more."""
    axes.imshow(difference, cmap=plt.get_cmap("seismic", 51), vmin=-limit, vmax=limit)  # few colours: a small picture
    axes.set(title=title, xticks=[], yticks=[])


def draw_overlap(axes, name, largest, distance, blur):
    """Draw an object that begins at the last row of a tile, and how much of the margin it and the reach take up."""
    last, edge = largest - 1, largest + distance + blur - 1  # rows below the one in which the object begins
    axes.axhspan(-20, 0.5, color="lightgray")
    axes.text(-42, -10, "tile", va="center")
    axes.axhline(edge + 0.5, color="black", linewidth=2)
    axes.text(-42, edge + 4, "edge of the window", va="center")
    axes.add_patch(Ellipse((0, last / 2), largest / 2, largest, color="lightskyblue"))
    axes.plot(0, 0, "o", color="mediumblue")
    axes.annotate("first pixel", (0, 0), (30, -10), va="center", arrowprops={"arrowstyle": "->"})
    for radius, style in ((distance, "--"), (distance + blur, ":")):
        axes.add_patch(Circle((0, last), radius, fill=False, linestyle=style))
    ends = np.cumsum([0.5, last, distance, blur])
    lengths = {f"{name} {largest}": ends[:2], f"nearest background {distance}": ends[1:3], f"blur {blur}": ends[2:]}
    for x, side, arrows in ((30, "left", lengths), (-30, "right", {f"overlap {edge + 1}": (0.5, edge + 0.5)})):
        for text, (start, stop) in arrows.items():
            axes.annotate("", (x, start), (x, stop), arrowprops={"arrowstyle": "<->", "shrinkA": 0, "shrinkB": 0})
            axes.text(x * 1.07, (start + stop) / 2, text, ha=side, va="center")
    axes.set(xlim=(-60, 75), ylim=(edge + 9, -20), aspect="equal")
    axes.axis("off")


def draw_cluster(axes):
    """Draw the roles of a cluster on one machine, in frames for its processes, and what goes from one to another."""
    own = "a process of its own"
    for left, low, wide, high, text in (
        (0, 0, 5, 4, "process of this notebook"),
        (6.6, 0, 2.9, 1.6, own),
        (6.6, 2.4, 2.9, 1.6, own),
    ):
        axes.add_patch(Rectangle((left, low), wide, high, fill=False, linestyle="--", edgecolor="0.4"))
        axes.text(left + 0.1, low + high - 0.1, text, va="top", color="0.3")
    roles = [("client", 0.8, 2), ("scheduler", 3.9, 2), ("nanny", 3.9, 3.2), ("nanny", 3.9, 0.8)]
    for name, column, row in (*roles, ("worker 1", 8.8, 2.9), ("worker 2", 8.8, 0.5)):
        axes.text(column, row, name, ha="center", va="center", bbox={"boxstyle": "round", "facecolor": "lavender"})
    for text, start, stop, arrow in (
        ("graph", (1.4, 2.15), (3.1, 2.15), "->"),
        ("result", (1.4, 1.7), (3.1, 1.7), "<-"),
        ("task", (4.7, 2.1), (8.1, 2.9), "->"),
        ("task", (4.7, 1.9), (8.1, 0.7), "->"),
        ("watches", (4.4, 3.2), (8.1, 3.1), "->"),
        ("watches", (4.4, 0.8), (8.1, 0.5), "->"),
        ("data", (8.8, 2.6), (8.8, 0.8), "<->"),
    ):
        axes.annotate("", stop, start, arrowprops={"arrowstyle": arrow})
        axes.text(
            *np.add(start, stop) / 2,
            text,
            ha="center",
            va="center",
            size=9,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    axes.set(xlim=(-0.1, 9.6), ylim=(-0.1, 4.1))
    axes.axis("off")


def draw_plan(above, below, name, plan):
    """Draw what lies in memory in each step of a plan of `ways_through`, with a letter, and below the sum of the bytes."""
    steps, frames, _ = plan.shape
    letters = {LOADED: "L", PREPROCESSED: "P", COUNTED: "C"}
    colours = ListedColormap(["white", "lightsteelblue", "cornflowerblue", "orange"])
    above.pcolormesh(plan.reshape(steps, -1).T, cmap=colours, norm=BoundaryNorm([0, 1, 3, 6.5, 8], 4))
    above.hlines(range(0, 4 * frames + 1, 4), 0, steps, color="0.6", linewidth=0.8)
    for step, t, quarter in np.argwhere(plan):
        complete = plan[step, t].all()  # one letter for the time point, else one for the quarter
        if quarter == 0 or not complete:
            place = 4 * t + (2 if complete else quarter + 0.5)
            style = {"size": 9 if complete else 5, "ha": "center", "va": "center"}
            above.text(step + 0.5, place, letters[plan[step, t, quarter]], **style)
    above.set(title=name, ylim=(4 * frames, 0), yticks=[])
    if name == "two computers":
        above.hlines(2 * frames, 0, steps, color="black", linewidth=3)
    below.stairs(memory_of(name, plan) / 2**20, fill=True, color="0.7", edgecolor="black")
    below.set(xlabel="step", xlim=(0, steps), ylim=(0, 130))


def mark_labels(axes, labels, names, marker):
    """Draw a white marker in the middle of each of these labels, and inside of the picture."""
    places = np.clip(ndi.center_of_mass(labels > 0, labels, names), 3, np.array(labels.shape) - 4)
    axes.plot(*places.T[::-1], marker, color="white", markeredgecolor="black", markersize=8)


def draw_owners(axes, labels, first, owned, start, side):
    """Draw the labels in a window and their first pixels: blue with a dot those that the tile owns, orange the others.

    `first` are the rows and the columns; the tile begins in row and column `start`, and has `side` pixels a side.
    """
    from skimage.segmentation import find_boundaries  # here, because it takes a while, as in draw_graph

    kinds = np.append(0, 1 + owned)[labels]
    kinds[find_boundaries(labels, mode="inner")] = 3
    axes.imshow(
        kinds, cmap=ListedColormap(["white", "navajowhite", "lightskyblue", "dimgray"]), interpolation="nearest"
    )
    rows, columns = first
    axes.plot(columns[owned], rows[owned], "o", color="mediumblue", label="owned by this tile")
    axes.plot(columns[~owned], rows[~owned], "x", color="orangered", label="owned by others")
    axes.add_patch(Rectangle((start - 0.5, start - 0.5), side, side, fill=False, linewidth=2.5))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


def draw_shares(axes, labels, side, rule):
    """Draw labels cut into square tiles, and write on every piece how much it counts by a rule for one tile."""
    axes.imshow(labels > 0, cmap="Blues", vmax=3)
    for cut in range(side, len(labels), side):
        axes.axhline(cut - 0.5, color="black")
        axes.axvline(cut - 0.5, color="black")
    for top, left in np.ndindex(len(labels) // side, len(labels) // side):
        tile = labels[top * side : (top + 1) * side, left * side : (left + 1) * side]
        for name in np.setdiff1d(tile, 0):
            row, column = ndi.center_of_mass(tile == name)
            share = f"{rule(np.where(tile == name, name, 0)).item():g}"
            axes.text(left * side + column, top * side + row, share, ha="center", va="center", fontsize=9)
    axes.set(xticks=[], yticks=[])


def draw_labels(axes, labels, title, numbers=None, like=None):
    """Draw labels, each in a colour, with the cuts between the tiles of a dask array.

    In a small array, `numbers` are written into the pixels of the objects: the labels by default, and none in a mask. Each
    object takes the colour that its first pixel would have in the labels `like`, if there are some.
    """
    chunks, labels = getattr(labels, "chunks", ((), ())), np.asarray(labels)
    (rows, columns), small = labels.shape, labels.size < 200
    places = np.searchsorted(np.unique(labels), labels)  # 0, the background, is among the labels
    if like is not None:
        _, first, of_pixels = np.unique(labels, return_index=True, return_inverse=True)
        _, others = np.unique(np.asarray(like), return_inverse=True)
        places = others.ravel()[first][of_pixels].reshape(labels.shape)
    named, others = plt.get_cmap("tab20").colors, np.random.default_rng(0).uniform(0.3, 1, (places.max(), 3))
    axes.imshow(np.vstack([(0, 0, 0), named[::2], named[1::2], others])[places], interpolation="nearest")
    axes.set(title=title, xticks=range(columns * small), yticks=range(rows * small))
    if small:
        axes.set(xlabel="column", ylabel="row")
        axes.hlines(np.arange(0.5, rows - 1), -0.5, columns - 0.5, color="0.4", linewidth=0.5)
        axes.vlines(np.arange(0.5, columns - 1), -0.5, rows - 0.5, color="0.4", linewidth=0.5)
        numbers = labels if numbers is None else numbers
        style = {"size": 8, "weight": "bold", "color": "white", "ha": "center", "va": "center"}
        for row, column in np.argwhere(labels) if numbers.dtype != bool else ():
            axes.text(column, row, numbers[row, column], **style)
    for draw, sizes in zip((axes.axhline, axes.axvline), chunks):
        for cut in np.cumsum(sizes)[:-1]:
            draw(cut - 0.5, color="white", linewidth=1.5 if small else 1)
