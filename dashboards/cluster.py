from house import page


def dashboard():
    return page("x", "x", "x", [])
