"""What is of the paper alone: runs, studies a chapter, claims."""
