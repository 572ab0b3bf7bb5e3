"""The book: what a chapter is run with, running chapters, building and checking the site."""
