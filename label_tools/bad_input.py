"""stub, replaced below"""
def title(code): return ""
