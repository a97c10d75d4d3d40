"""What every room may use, and what uses none of them: geometry, intervals, text, optional
packages, and the pieces of HTML that notebooks show. Nothing here imports the rest of the package.
"""
